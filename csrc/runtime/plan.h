// From a graph to the steps that run it, with a place for every tensor.
#pragma once

#include <memory>
#include <vector>

#include "graph/graph.h"
#include "runtime/step.h"

namespace mobilequant {

// One step, and whether members must meet before it: when many rows are run, and when one is.
struct Planned {
    std::unique_ptr<Step> step;
    bool meet_many, meet_single;
};

struct Plan {
    std::vector<Planned> steps;
    Place logits;
    std::size_t shared_bytes, row_bytes;  // of one row in each pool
};

// The graph must outlive the plan. `kernels` too.
Plan make_plan(const Graph& graph, const Kernels& kernels);

}  // namespace mobilequant
