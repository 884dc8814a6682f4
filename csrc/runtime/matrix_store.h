// All weight matrices of a graph, packed into one block of memory in the order in which each thread reads them: one
// token is one walk of each thread through its part. (Two streams that take turns, such as gate and up of an MLP, came
// to 11 GB/s where one gives 28.)
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "graph/graph.h"
#include "graph/packed_matrix.h"
#include "package/mapped_file.h"
#include "runtime/aligned.h"
#include "runtime/team.h"

namespace mobilequant {

// Linears whose panels of the same number are computed together: one step of a plan.
using Walk = std::vector<const Linear*>;

class MatrixStore {
  public:
    // `walks` in running order. Members of the team pack different matrices; what was read of `file`, which holds the
    // codes, is released. Throws PackageError: groups of columns that no kernel knows.
    MatrixStore(const std::vector<Walk>& walks, const MappedFile& file, Team& team);

    // The matrix of these codes, and of the multipliers of their groups or nullptr.
    const PackedMatrix& of(const Linear& op) const { return *matrices_.at({op.codes, op.group_multiplier}); }

    // The matrix in which these codes lie alone: that of a tied lm_head holds an embedding's. Or nullptr.
    const PackedMatrix* find(Array codes) const {
        const auto found = matrices_.find({codes, nullptr});
        return found == matrices_.end() ? nullptr : found->second.get();
    }

  private:
    using Group = std::vector<PackedMatrix*>;
    std::vector<Group> make_matrices(const std::vector<Walk>& walks);
    void place(const std::vector<Group>& groups, int members);

    AlignedBytes memory_;
    std::map<std::pair<Array, Array>, std::unique_ptr<PackedMatrix>> matrices_;
};

}  // namespace mobilequant
