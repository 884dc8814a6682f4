// graph.json and the arrays beside it → Graph. Names, types and counts are checked here; rules in check.h.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "package/json.h"
#include "package/safetensors.h"

namespace mobilequant {

// Every entry of "constants", found among the stored arrays with the dtype and shape that it says.
// Throws PackageError: an array is missing, of another type or shape, or belongs to no constant.
std::vector<Constant> read_constants(const Json& entries,
                                     const std::map<std::string, StoredArray, std::less<>>& arrays);

// Throws PackageError: a key or operation is unknown or missing, or a name stands for nothing.
Graph read_graph(const Json& file, const std::vector<Constant>& constants);

}  // namespace mobilequant
