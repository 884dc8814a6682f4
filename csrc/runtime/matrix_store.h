// All weight matrices of a graph, packed side by side in one block of memory.
#pragma once

#include <map>
#include <memory>

#include "graph/graph.h"
#include "graph/packed_matrix.h"
#include "package/mapped_file.h"
#include "runtime/aligned.h"
#include "runtime/team.h"

namespace mobilequant {

class MatrixStore {
  public:
    // Members of the team pack different matrices; what was read of `file`, which holds the codes, is released.
    // Throws PackageError: groups of columns that no kernel knows.
    MatrixStore(const Graph& graph, const MappedFile& file, Team& team);

    // The matrix of these codes: a tied lm_head shares that of the embedding.
    const PackedMatrix& of(Array codes) const { return *matrices_.at(codes); }

    std::size_t bytes() const { return memory_.size(); }

  private:
    AlignedBytes memory_;
    std::map<Array, std::unique_ptr<PackedMatrix>> matrices_;
};

}  // namespace mobilequant
