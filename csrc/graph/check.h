// Every rule that a graph of known parts can still break: shapes, limits, widths of sums, what may read what.
//
// The same rules as src/mobilequant/integer/{schema,shape,layout,bound}.py. Whoever runs a checked graph need not check
// again: no code, factor or shape in it can lead out of an array or a width.
#pragma once

#include "graph/graph.h"

namespace mobilequant {

// Throws PackageError with the operation and the rule.
void check_graph(const Graph& graph);

}  // namespace mobilequant
