// A package on disk, opened and fully checked (docs/package-format.md). What comes out of here needs no more checks.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "graph/graph.h"
#include "package/mapped_file.h"

namespace mobilequant {

// The three files that an engine reads.
struct PackageBytes {
    std::span<const std::byte> manifest, graph;  // package.json, graph.json
    std::span<const std::byte> weights;          // weights.safetensors, at an address that is a multiple of 8
};

// Whether sizes and hashes of the manifest are compared. Only a program that spoils packages on purpose ignores them.
enum class Hashes : bool { ignored, checked };

class Package {
  public:
    // Throws PackageError: no package, another version, a damaged file, or a graph that breaks a rule.
    static Package open(const std::filesystem::path& folder);

    // The same from memory, which must outlive the package.
    static Package read(const PackageBytes& files, Hashes hashes = Hashes::checked);

    const Graph& graph() const { return graph_; }
    std::optional<std::int32_t> leading_token() const { return leading_token_; }  // to be fed before every text

    // The constants live in this mapping; once packed they may be released.
    const MappedFile& weights() const { return weights_; }

  private:
    Package(std::vector<Constant> constants, Graph graph, std::optional<std::int32_t> leading_token)
        : constants_(std::move(constants)), graph_(std::move(graph)), leading_token_(leading_token) {}

    MappedFile weights_;               // empty where they were read from memory
    std::vector<Constant> constants_;  // the graph points into it
    Graph graph_;
    std::optional<std::int32_t> leading_token_;
};

}  // namespace mobilequant
