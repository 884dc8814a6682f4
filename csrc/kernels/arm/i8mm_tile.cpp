// Armv8.6 with the integer matrix instructions: usmmla multiplies two rows of 8 unsigned codes by 8 signed weights of
// two channels; a last single row goes through sudot, 4 weights by 4 codes in each of 4 channels.
#include <arm_neon.h>

#include "kernels/tile.h"

namespace mobilequant::arm_i8mm {
namespace {

constexpr int kBlock = 16, kVectors = kBlock / 4, kMaxPairs = 3, kGroupBytes = kPanelChannels * kColumnGroup;

// Eight columns of 16 channels: `first` holds columns 0 … 3 of four channels in each register, `second` columns 4 … 7.
struct Eight {
    int8x16_t first[kVectors], second[kVectors];
};

struct Weights8 {
    static constexpr int kBits = 8, kShift = 0;
    static void load(Eight& weights, const std::byte* from) {
        for (int v = 0; v < kVectors; ++v) {
            weights.first[v] = vld1q_s8(reinterpret_cast<const std::int8_t*>(from) + 16 * v);
            weights.second[v] = vld1q_s8(reinterpret_cast<const std::int8_t*>(from) + kGroupBytes + 16 * v);
        }
    }
};

struct Weights4 {
    static constexpr int kBits = 4, kShift = 4;
    static void load(Eight& weights, const std::byte* from) {
        for (int v = 0; v < kVectors; ++v) {
            const int8x16_t raw = vld1q_s8(reinterpret_cast<const std::int8_t*>(from) + 16 * v);
            weights.first[v] = vshlq_n_s8(raw, 4);
            weights.second[v] = vandq_s8(raw, vdupq_n_s8(static_cast<std::int8_t>(0xF0)));
        }
    }
};

inline int8x16_t lower(int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s32(vzip1q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}
inline int8x16_t upper(int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s32(vzip2q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}

// Pairs of rows: each register of sums has two channels of both rows.
template <class Weights, int P>
void sum_pairs(const std::byte* panel, const std::uint8_t* codes, std::ptrdiff_t stride, int columns,
               std::int32_t (*out)[kBlock]) {
    int32x4_t sums[P][2 * kVectors];
    for (auto& pair : sums)
        for (int32x4_t& sum : pair) sum = vdupq_n_s32(0);
    for (int k = 0; k < columns; k += kColumnPad, panel += kGroupBytes * Weights::kBits / 4) {
        Eight weights;
        Weights::load(weights, panel);
        for (int p = 0; p < P; ++p) {
            const std::uint8_t* row = codes + 2 * p * stride + k;
            const uint8x16_t two = vcombine_u8(vld1_u8(row), vld1_u8(row + stride));
            for (int v = 0; v < kVectors; ++v) {
                sums[p][2 * v] = vusmmlaq_s32(sums[p][2 * v], two, lower(weights.first[v], weights.second[v]));
                sums[p][2 * v + 1] = vusmmlaq_s32(sums[p][2 * v + 1], two, upper(weights.first[v], weights.second[v]));
            }
        }
    }
    for (int p = 0; p < P; ++p) {
        for (int v = 0; v < 2 * kVectors; ++v) {
            const int32x4_t sum = vshlq_s32(sums[p][v], vdupq_n_s32(-Weights::kShift));
            vst1_s32(out[2 * p] + 2 * v, vget_low_s32(sum));
            vst1_s32(out[2 * p + 1] + 2 * v, vget_high_s32(sum));
        }
    }
}

template <class Weights>
void sum_single(const std::byte* panel, const std::uint8_t* codes, int columns, std::int32_t* out) {
    int32x4_t sums[kVectors] = {};
    for (int k = 0; k < columns; k += kColumnPad, panel += kGroupBytes * Weights::kBits / 4) {
        Eight weights;
        Weights::load(weights, panel);
        const uint8x8_t eight = vld1_u8(codes + k);
        for (int v = 0; v < kVectors; ++v) {
            sums[v] = vsudotq_lane_s32(sums[v], weights.first[v], eight, 0);
            sums[v] = vsudotq_lane_s32(sums[v], weights.second[v], eight, 1);
        }
    }
    for (int v = 0; v < kVectors; ++v) vst1q_s32(out + 4 * v, vshlq_s32(sums[v], vdupq_n_s32(-Weights::kShift)));
}

template <class Weights>
void sum_block(const std::byte* panel, const Rows& rows, int column, int columns, std::int32_t (*out)[kBlock]) {
    using Pairs = void (*)(const std::byte*, const std::uint8_t*, std::ptrdiff_t, int, std::int32_t (*)[kBlock]);
    static constexpr Pairs kByPairs[kMaxPairs] = {sum_pairs<Weights, 1>, sum_pairs<Weights, 2>, sum_pairs<Weights, 3>};
    const std::uint8_t* codes = rows.codes + column;
    if (const int pairs = rows.count / 2) kByPairs[pairs - 1](panel, codes, rows.stride, columns, out);
    if (rows.count % 2)
        sum_single<Weights>(panel, codes + (rows.count - 1) * rows.stride, columns, out[rows.count - 1]);
}

template <class Weights>
void tile(const Panel& panel, const Rows& rows, std::int32_t* out) {
    const int columns = panel.columns / panel.groups;
    const std::ptrdiff_t bytes = std::ptrdiff_t{columns} * kPanelChannels * Weights::kBits / 8;
    for (int first = 0; first < kPanelChannels; first += kBlock) {
        for (int g = 0; g < panel.groups; ++g) {
            alignas(16) std::int32_t part[2 * kMaxPairs][kBlock];
            sum_block<Weights>(panel.weights + g * bytes + first * kColumnGroup, rows, g * columns, columns, part);
            for (int r = 0; r < rows.count; ++r) {
                std::int32_t* place = out + r * kPanelChannels + first;
                for (int c = 0; c < kBlock; ++c) {
                    const std::uint32_t factor =
                        !panel.multiplier ? 1 : panel.multiplier[g * kPanelChannels + first + c];
                    const std::uint32_t before = g == 0 ? 0 : static_cast<std::uint32_t>(place[c]);
                    place[c] = static_cast<std::int32_t>(before + factor * static_cast<std::uint32_t>(part[r][c]));
                }
            }
        }
    }
}

}  // namespace

void tile8(const Panel& panel, const Rows& rows, std::int32_t* sums) { tile<Weights8>(panel, rows, sums); }
void tile4(const Panel& panel, const Rows& rows, std::int32_t* sums) { tile<Weights4>(panel, rows, sums); }

}  // namespace mobilequant::arm_i8mm
