// From a graph to the steps that run it, with a place for every tensor.
#pragma once

#include <memory>
#include <vector>

#include "graph/graph.h"
#include "runtime/matrix_store.h"
#include "runtime/step.h"

namespace mobilequant {

// One step, and whether members must meet before it: when many rows are run, and when one is.
struct Planned {
    std::unique_ptr<Step> step;
    bool meet_many, meet_single;
};

struct Plan {
    std::vector<Planned> steps;
    std::vector<Place> places;            // of tensors; those inside a step have none
    std::size_t shared_bytes, row_bytes;  // of one row in each pool
    std::size_t last_attention;           // from this step on, rows depend on no other rows
};

// Fused steps whose tensors share memory, or one step for each operation and all tensors kept.
enum class Keep { output, all };

// What a step reads and writes, as numbers of tensors.
struct Draft {
    std::vector<int> inputs;
    int output;
    bool by_rows;
    std::vector<std::size_t> ops;  // of the graph
};

std::vector<Draft> draft_steps(const Graph& graph, Keep keep);

// What each step reads of the weights.
std::vector<Walk> walks_of(const Graph& graph, const std::vector<Draft>& drafts);

// The graph, kernels and matrices must outlive the plan.
Plan make_plan(const Graph& graph, const std::vector<Draft>& drafts, Keep keep, const Kernels& kernels,
               const MatrixStore& matrices);

}  // namespace mobilequant
