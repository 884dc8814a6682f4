// Spoiled packages without a fuzzer, the same in every run: what CI can afford.
//
//   package_mutations COUNT SEED PACKAGE…     so many mutants of these packages, read and, where they are taken, run
//   package_mutations --replay FILE…          inputs of package_fuzz again, such as those that it found
//   package_mutations --corpus DIR PACKAGE…   packages as inputs of package_fuzz, to begin with
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "fuzz/mutation.h"

#if defined(__SANITIZE_ADDRESS__)
// A tiny package has no reason to ask for more, whatever numbers stand in it. Short traces of allocations: twice as
// fast.
extern "C" const char* __asan_default_options() {
    return "max_allocation_size_mb=256:hard_rss_limit_mb=2048:malloc_context_size=1";
}
#endif

namespace mobilequant::fuzz {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        std::fprintf(stderr, "%s cannot be read\n", path.c_str());
        std::exit(2);
    }
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Files read_package(const fs::path& folder) {
    return {read(folder / "package.json"), read(folder / "graph.json"), read(folder / "weights.safetensors")};
}

void limit_memory() {
#if !defined(__SANITIZE_ADDRESS__)  // which reserves terabytes of addresses
    const rlimit limit = {std::size_t{1} << 30, std::size_t{1} << 30};
    setrlimit(RLIMIT_AS, &limit);
#endif
}

int mutants(long count, unsigned long long seed, const std::vector<std::string>& folders) {
    std::vector<Files> packages;
    for (const std::string& folder : folders) packages.push_back(read_package(folder));
    for (std::size_t i = 0; i < packages.size(); ++i) {
        if (read_and_run(packages[i]) == Outcome::ran) continue;
        std::fprintf(stderr, "%s is refused as it is\n", folders[i].c_str());
        return 2;
    }
    long ran = 0;
    const fs::path current = fs::temp_directory_path() / ("mutant-" + std::to_string(seed));
    for (long number = 0; number < count; ++number) {
        const Files mutant = mutate(packages[static_cast<std::size_t>(number) % packages.size()],
                                    seed + static_cast<unsigned long long>(number));
        std::ofstream(current, std::ios::binary) << join(mutant);  // stays where this one ends the process
        ran += read_and_run(mutant) == Outcome::ran;
    }
    fs::remove(current);
    std::printf("%ld mutants: %ld ran, %ld were refused\n", count, ran, count - ran);
    return 0;
}

int replay(const std::vector<std::string>& files) {
    for (const std::string& file : files) {
        const std::string bytes = read(file);
        std::printf("%s %s\n", file.c_str(),
                    read_and_run(split(bytes.data(), bytes.size())) == Outcome::ran ? "ran" : "was refused");
    }
    return 0;
}

int corpus(const fs::path& folder, const std::vector<std::string>& packages) {
    fs::create_directories(folder);
    for (const std::string& package : packages)
        std::ofstream(folder / fs::path(package).filename(), std::ios::binary) << join(read_package(package));
    return 0;
}

int run(const std::vector<std::string>& words) {
    if (words.size() >= 2 && words[0] == "--replay") return replay({words.begin() + 1, words.end()});
    if (words.size() >= 3 && words[0] == "--corpus") return corpus(words[1], {words.begin() + 2, words.end()});
    if (words.size() >= 3)
        return mutants(std::atol(words[0].c_str()), std::strtoull(words[1].c_str(), nullptr, 10),
                       {words.begin() + 2, words.end()});
    std::fprintf(stderr, "Usage: package_mutations COUNT SEED PACKAGE… | --replay FILE… | --corpus DIR PACKAGE…\n");
    return 2;
}

}  // namespace
}  // namespace mobilequant::fuzz

int main(int count, char** words) {
    mobilequant::fuzz::limit_memory();
    return mobilequant::fuzz::run({words + 1, words + count});
}
