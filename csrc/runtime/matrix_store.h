// All weight matrices of a graph, packed into one block of memory in the order in which each thread reads them: one token is one
// walk of each thread through its part. (Two streams that take turns, such as gate and up of an MLP, came to 11 GB/s where one
// gives 28.)
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "graph/graph.h"
#include "graph/packed_matrix.h"
#include "package/mapped_file.h"
#include "runtime/aligned.h"
#include "runtime/team.h"

namespace mobilequant {

// Linears, or the embedding, whose panels of the same number are computed together: one step of a plan.
using Walk = std::vector<const Op*>;

class MatrixStore {
  public:
    // `walks` in running order. Members of the team pack different matrices; what was read of `file`, which holds the codes, is
    // released. Throws PackageError: groups of columns that no kernel knows.
    MatrixStore(const std::vector<Walk>& walks, const MappedFile& file, Team& team);

    // The matrix of these codes: a tied lm_head shares that of the embedding, unless its groups have multipliers of their own.
    const PackedMatrix& of(Array codes, Array multiplier) const { return *matrices_.at({codes, multiplier}); }

    std::size_t bytes() const { return memory_.size(); }

  private:
    using Group = std::vector<PackedMatrix*>;
    std::vector<Group> make_matrices(const std::vector<Walk>& walks);
    void place(const std::vector<Group>& groups, int members);

    AlignedBytes memory_;
    std::map<std::pair<Array, Array>, std::unique_ptr<PackedMatrix>> matrices_;  // by codes and multiplier
};

}  // namespace mobilequant
