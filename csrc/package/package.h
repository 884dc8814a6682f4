// A package on disk, opened and fully checked (docs/package-format.md). What comes out of here needs no more checks.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "graph/graph.h"
#include "package/mapped_file.h"

namespace mobilequant {

class Package {
  public:
    // Throws PackageError: no package, another version, a damaged file, or a graph that breaks a rule.
    static Package open(const std::filesystem::path& folder);

    const Graph& graph() const { return graph_; }
    std::optional<std::int32_t> leading_token() const { return leading_token_; }  // to be fed before every text

    // The constants live in this mapping; once packed they may be released.
    const MappedFile& weights() const { return weights_; }

  private:
    Package(MappedFile weights, std::vector<Constant> constants, Graph graph, std::optional<std::int32_t> leading_token)
        : weights_(std::move(weights)),
          constants_(std::move(constants)),
          graph_(std::move(graph)),
          leading_token_(leading_token) {}

    MappedFile weights_;
    std::vector<Constant> constants_;  // the graph points into it
    Graph graph_;
    std::optional<std::int32_t> leading_token_;
};

}  // namespace mobilequant
