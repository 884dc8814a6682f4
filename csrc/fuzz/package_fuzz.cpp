// The reader of packages under libFuzzer; half of its mutants are ours, which know what a package looks like.
//
//   cmake --preset fuzz && cmake --build --preset fuzz
//   build/sanitize/csrc/fuzz/package_mutations --corpus corpus PACKAGE…
//   build/fuzz/csrc/fuzz/package_fuzz -max_len=200000 -malloc_limit_mb=256 corpus
#include <cstring>

#include "fuzz/mutation.h"

using namespace mobilequant::fuzz;

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t room);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t room, unsigned seed) {
    if (seed % 2) return LLVMFuzzerMutate(data, size, room);
    const std::string mutant = join(mutate(split(reinterpret_cast<const char*>(data), size), seed));
    if (mutant.size() > room) return size;
    std::memcpy(data, mutant.data(), mutant.size());
    return mutant.size();
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    read_and_run(split(reinterpret_cast<const char*>(data), size));
    return 0;
}
