// What kernels are told: pointers and numbers, no containers. Filled in once when a graph is planned.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mobilequant {

// How codes of a tensor are written.
struct Format {
    std::int32_t zero_point, qmin, qmax;
};

// rescale(v) = (v · mantissa + half) >> shift, half = 2^(shift − 1)
//
// Where `narrow`, shift + raise is at least 33 and v · 2^raise fits 32 bits. The rounding half then has no bits in the
// low half of a product, so that its high half alone is rounded and shifted, in 32-bit lanes:
//
//   rescale(v) = (high32(v · 2^raise · mantissa) + 2^(shift + raise − 33)) >> (shift + raise − 32)
constexpr int kNarrowShift = 33;

struct Factor {
    std::int64_t mantissa, half;
    std::int32_t shift;
    bool narrow;
    std::int32_t raise;
};

// Bits by which a number is raised before it is multiplied, and whether one of at most `bound` has room for them.
constexpr int raise_of(int shift) { return shift < kNarrowShift ? kNarrowShift - shift : 0; }
constexpr bool is_narrow(int shift, std::int64_t bound) {
    return bound <= (std::int64_t{1} << 31 >> raise_of(shift)) - 1;
}

// `bound`: what the magnitude of a rescaled number cannot exceed.
constexpr Factor make_factor(std::int64_t mantissa, int shift, std::int64_t bound) {
    return {mantissa, std::int64_t{1} << (shift - 1), shift, is_narrow(shift, bound), raise_of(shift)};
}

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
    std::int32_t half, head_dim;    // 2 · half dimensions of a head turn
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

// What follows the sums of a panel: y = rescale(sum + bias) of each channel. All arrays cover whole panels.
//
// Where `narrow`, all channels are (see Factor).
struct ChannelFactors {
    const std::int32_t* bias;  // with the zero point of the input
    const std::int32_t* mantissa;
    const std::uint8_t* shift;  // narrow: shift + raise − 32
    const std::uint8_t* raise;  // narrow only
    bool narrow;
    Format to;
};

// Sums of a few rows and the channels of a panel; `stride` entries from row to row.
struct SumRows {
    const std::int32_t* first;
    std::ptrdiff_t stride;
    int rows, channels;
};

// exponential(d) = table[t & 255] / 2^(t >> 8), rounded, of t = rescale(d); probabilities are shares of `one`.
//
// `by` is narrow for every distance of scores; `entries` is nullptr where a table entry less 1 does not fit 16 bits.
struct SoftmaxKernel {
    const std::int32_t* table;  // 256 entries
    Factor by;
    std::int32_t one, qmax;
    const std::uint16_t* entries;  // 256, each one less than in the table
};

}  // namespace mobilequant
