// The codes of stored matrices, row by row.
#pragma once

#include <cstdint>

#include "graph/graph.h"

namespace mobilequant {

// One row of an int8 or int4 matrix, a byte for each code.
void read_row(const Constant& codes, std::int64_t row, std::int8_t* out);

// Σ w and Σ |w| of some codes.
struct CodeSums {
    std::int64_t sum, magnitude;
};
CodeSums sum_codes(const std::int8_t* codes, std::int64_t count);

}  // namespace mobilequant
