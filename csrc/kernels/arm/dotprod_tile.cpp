// Armv8.2 with the dot product instructions: sdot multiplies 4 signed weights by 4 signed codes in each of 4 channels.
// Codes become signed by taking 128, the offset of these tiles. A nibble is used as the high half of a byte, 16 times
// the weight, and the sums are shifted in the end.
#include <arm_neon.h>

#include "kernels/tile.h"

namespace mobilequant::arm_dot {
namespace {

constexpr int kBlock = 16, kVectors = kBlock / 4, kMaxRows = 4, kGroupBytes = kPanelChannels * kColumnGroup;
using Sums = int32x4_t[kVectors];

inline void load(int8x16_t (&weights)[kVectors], const std::byte* from) {
    for (int v = 0; v < kVectors; ++v) weights[v] = vld1q_s8(reinterpret_cast<const std::int8_t*>(from) + 16 * v);
}

// Four codes less 128, in every channel.
inline int8x16_t centred(const std::uint8_t* codes) {
    std::uint32_t four;
    __builtin_memcpy(&four, codes, sizeof four);
    return vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x80808080u));
}

template <int R>
inline void multiply(Sums (&sums)[R], const int8x16_t (&weights)[kVectors], const std::uint8_t* codes,
                     std::ptrdiff_t stride) {
    for (int r = 0; r < R; ++r) {
        const int8x16_t four = centred(codes + r * stride);
        for (int v = 0; v < kVectors; ++v) sums[r][v] = vdotq_s32(sums[r][v], weights[v], four);
    }
}

template <int R>
inline void sum8(Sums (&sums)[R], const std::byte* panel, const std::uint8_t* codes, std::ptrdiff_t stride,
                 int columns) {
    for (int k = 0; k < columns; k += kColumnGroup, panel += kGroupBytes) {
        int8x16_t weights[kVectors];
        load(weights, panel);
        multiply(sums, weights, codes + k, stride);
    }
}

template <int R>
inline void sum4(Sums (&sums)[R], const std::byte* panel, const std::uint8_t* codes, std::ptrdiff_t stride,
                 int columns) {
    const int8x16_t high = vdupq_n_s8(static_cast<std::int8_t>(0xF0));
    for (int k = 0; k < columns; k += kColumnPad, panel += kGroupBytes) {
        int8x16_t raw[kVectors], weights[kVectors];
        load(raw, panel);
        for (int v = 0; v < kVectors; ++v) weights[v] = vshlq_n_s8(raw[v], 4);
        multiply(sums, weights, codes + k, stride);
        for (int v = 0; v < kVectors; ++v) weights[v] = vandq_s8(raw[v], high);
        multiply(sums, weights, codes + k + kColumnGroup, stride);
    }
    for (auto& row : sums)
        for (int32x4_t& sum : row) sum = vshrq_n_s32(sum, 4);
}

template <int R, int kBits>
void tile_rows(const Panel& panel, const Rows& rows, std::int32_t* out) {
    const int columns = panel.columns / panel.groups;
    const std::ptrdiff_t bytes = std::ptrdiff_t{columns} * kPanelChannels * kBits / 8;
    for (int first = 0; first < kPanelChannels; first += kBlock) {
        for (int g = 0; g < panel.groups; ++g) {
            Sums sums[R];
            for (auto& row : sums)
                for (int32x4_t& sum : row) sum = vdupq_n_s32(0);
            const std::byte* weights = panel.weights + g * bytes + first * kColumnGroup;
            if constexpr (kBits == 8)
                sum8(sums, weights, rows.codes + g * columns, rows.stride, columns);
            else
                sum4(sums, weights, rows.codes + g * columns, rows.stride, columns);
            for (int r = 0; r < R; ++r) {
                for (int v = 0; v < kVectors; ++v) {
                    std::int32_t* place = out + r * kPanelChannels + first + 4 * v;
                    if (!panel.multiplier) {
                        vst1q_s32(place, sums[r][v]);
                        continue;
                    }
                    const std::uint8_t* m = panel.multiplier + g * kPanelChannels + first + 4 * v;
                    const int32x4_t factor = {m[0], m[1], m[2], m[3]};
                    vst1q_s32(place, vmlaq_s32(g == 0 ? vdupq_n_s32(0) : vld1q_s32(place), sums[r][v], factor));
                }
            }
        }
    }
}

template <int kBits>
void tile(const Panel& panel, const Rows& rows, std::int32_t* out) {
    static constexpr Tile kByRows[kMaxRows] = {tile_rows<1, kBits>, tile_rows<2, kBits>, tile_rows<3, kBits>,
                                               tile_rows<4, kBits>};
    kByRows[rows.count - 1](panel, rows, out);
}

}  // namespace

void tile8(const Panel& panel, const Rows& rows, std::int32_t* sums) { tile<8>(panel, rows, sums); }
void tile4(const Panel& panel, const Rows& rows, std::int32_t* sums) { tile<4>(panel, rows, sums); }

}  // namespace mobilequant::arm_dot
