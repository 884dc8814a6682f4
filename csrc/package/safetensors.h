// The arrays of a safetensors file (https://huggingface.co/docs/safetensors), where they lie in its mapping.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace mobilequant {

struct StoredArray {
    std::string dtype;  // as the file spells it: I8, U8, I16, I32, …
    std::vector<std::int64_t> shape;
    std::span<const std::byte> bytes;
};

// All arrays by name. They lie side by side, without gaps, and together fill the file; each begins at a multiple of the
// size of its elements, counted in memory.
// Throws PackageError: the header is no such header, or an array does not fit its bytes.
std::map<std::string, StoredArray, std::less<>> read_safetensors(std::span<const std::byte> file,
                                                                 const std::string& where);

}  // namespace mobilequant
