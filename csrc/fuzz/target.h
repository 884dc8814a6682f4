// What a fuzzer does with a package: read it from memory, and where the reader takes it, run it.
#pragma once

#include <string>

namespace mobilequant::fuzz {

// The files of a package; hashes in the manifest are not looked at.
struct Files {
    std::string manifest, graph, weights;
};

// One string of bytes: length of the graph (4 bytes, little-endian), graph, weights. The manifest of such a package is
// fixed.
std::string join(const Files& files);
Files split(const char* data, std::size_t size);

// How far a package came.
enum class Outcome { refused, ran };

// Ends the process where the kernels of this machine give other logits than the scalar ones. What leads out of an array
// is for sanitizers to find.
Outcome read_and_run(const Files& files);

}  // namespace mobilequant::fuzz
