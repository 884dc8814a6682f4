// What kernels are told: pointers and numbers, no containers. Filled in once when a graph is planned.
#pragma once

#include <cstdint>

namespace mobilequant {

// How codes of a tensor are written.
struct Format {
    std::int32_t zero_point, qmin, qmax;
};

// rescale(v) = (v · mantissa + half) >> shift, half = 2^(shift − 1)
struct Factor {
    std::int64_t mantissa, half;
    std::int32_t shift;
};

struct NormKernel {
    std::int32_t zero_point;
    const std::uint8_t* exponent;  // group entries, zeros where the graph has none
    const std::int16_t* gain;
    const std::int32_t* bias;  // zeros where the graph has none
    std::int64_t epsilon;
    bool subtract_mean;
    std::int32_t group;
    Factor by;
    Format to;
};

struct RopeKernel {
    std::int32_t zero_point;
    std::int32_t half, head_dim;  // 2 · half dimensions of a head turn
    const std::int16_t *cos, *sin;  // rows of half entries, one for each position
    Factor by;
    Format to;
};

struct MultiplyKernel {
    std::int32_t zero_point_a, zero_point_b;
    Factor by;
    Format to;
};

struct AddKernel {
    std::int32_t zero_point_a, zero_point_b;
    Factor by_a, by_b, by;
    Format to;
};

// Rescale factors of output channels, padded to whole panels.
struct ChannelFactors {
    const std::int32_t* mantissa;
    const std::uint64_t* shift;  // as wide as the products that it shifts
    const std::int32_t* bias;    // with the zero point of the input
    Format to;
};

struct SoftmaxKernel {
    const std::int32_t* table;  // 256 entries
    Factor by;
    std::int32_t one, qmax;
};

}  // namespace mobilequant
