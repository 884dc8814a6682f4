// AVX2 without VNNI.
//
// 8 bits: codes and weights widened to 16 bits, vpmaddwd.
// 4 bits: vpmaddubsw of (w + 8), unsigned, with (x − 128), signed. Two products come to 15 · 128 · 2 = 3,840 at most,
// so the sums of 8 groups of columns fit 16 bits. Σ (x − 128)(w + 8) − 8·Σ (x − 128) is what is asked for, with an
// offset of 128.
#include <immintrin.h>

#include "kernels/tile.h"

namespace mobilequant::avx2 {
namespace {

constexpr int kGroupBytes = kPanelChannels * kColumnGroup;
constexpr int kMaxRows = 3;

// ── 8 bits: 16 channels at a time, four in a register, two partial sums for each ─────────────────────────────────────

constexpr int kBlock8 = 16, kVectors8 = 4;

inline __m256i widen_codes(const std::uint8_t* codes) {
    std::uint32_t four;
    __builtin_memcpy(&four, codes, sizeof four);
    return _mm256_cvtepu8_epi16(_mm_set1_epi32(static_cast<int>(four)));
}

template <int R>
void sum8(const std::byte* weights, const std::uint8_t* codes, std::ptrdiff_t stride, int columns, std::int32_t* out,
          std::int32_t out_stride) {
    __m256i sums[R][kVectors8];
    for (auto& row : sums)
        for (__m256i& sum : row) sum = _mm256_setzero_si256();
    for (int k = 0; k < columns; k += kColumnGroup, weights += kGroupBytes) {
        __m256i four[R];
        for (int r = 0; r < R; ++r) four[r] = widen_codes(codes + r * stride + k);
        for (int v = 0; v < kVectors8; ++v) {
            const __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights) + v));
            for (int r = 0; r < R; ++r) sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(w, four[r]));
        }
    }
    for (int r = 0; r < R; ++r) {
        for (int v = 0; v < kVectors8; v += 2) {
            const __m256i mixed = _mm256_hadd_epi32(sums[r][v], sums[r][v + 1]);
            const __m256i ordered = _mm256_permute4x64_epi64(mixed, 0xD8);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + r * out_stride + 4 * v), ordered);
        }
    }
}

// ── 4 bits: 32 channels at a time, eight in a register ───────────────────────────────────────────────────────────────

constexpr int kBlock4 = 32, kVectors4 = 4, kColumnsAtOnce = 32;

inline __m256i centred_codes(const std::uint8_t* codes) {
    std::uint32_t four;
    __builtin_memcpy(&four, codes, sizeof four);
    return _mm256_set1_epi32(static_cast<int>(four ^ 0x80808080u));
}

template <int R>
void sum4(const std::byte* weights, const std::uint8_t* codes, std::ptrdiff_t stride, int columns, std::int32_t* out,
          std::int32_t out_stride) {
    const __m256i low = _mm256_set1_epi8(0x0F), bias = _mm256_set1_epi8(static_cast<char>(0x88)),
                  ones = _mm256_set1_epi16(1);
    for (int r = 0; r < R; ++r) {
        std::int32_t total = 0;
        for (int k = 0; k < columns; ++k) total += codes[r * stride + k] - 128;
        for (int c = 0; c < kBlock4; ++c) out[r * out_stride + c] = -8 * total;
    }
    for (int start = 0; start < columns; start += kColumnsAtOnce) {
        const int end = start + kColumnsAtOnce < columns ? start + kColumnsAtOnce : columns;
        __m256i sums[R][kVectors4];
        for (auto& row : sums)
            for (__m256i& sum : row) sum = _mm256_setzero_si256();
        for (int k = start; k < end; k += kColumnPad, weights += kGroupBytes) {
            for (int half = 0; half < 2; ++half) {
                __m256i four[R];
                for (int r = 0; r < R; ++r) four[r] = centred_codes(codes + r * stride + k + half * kColumnGroup);
                for (int v = 0; v < kVectors4; ++v) {
                    __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights) + v);
                    raw = _mm256_xor_si256(raw, bias);
                    const __m256i w = _mm256_and_si256(half ? _mm256_srli_epi16(raw, 4) : raw, low);
                    for (int r = 0; r < R; ++r)
                        sums[r][v] = _mm256_add_epi16(sums[r][v], _mm256_maddubs_epi16(w, four[r]));
                }
            }
        }
        for (int r = 0; r < R; ++r) {
            for (int v = 0; v < kVectors4; ++v) {
                auto* place = reinterpret_cast<__m256i*>(out + r * out_stride) + v;
                const __m256i wide = _mm256_madd_epi16(sums[r][v], ones);
                _mm256_storeu_si256(place, _mm256_add_epi32(_mm256_loadu_si256(place), wide));
            }
        }
    }
}

// ── panels ───────────────────────────────────────────────────────────────────────────────────────────────────────────

using Sum = void (*)(const std::byte*, const std::uint8_t*, std::ptrdiff_t, int, std::int32_t*, std::int32_t);

// One block of channels after the other; with groups, each group's sums times their multipliers.
void run(const Panel& panel, const Rows& rows, std::int32_t* out, Sum sum, int block, int columns_of_group) {
    const int columns = panel.columns / panel.groups;
    const std::ptrdiff_t bytes = std::ptrdiff_t{columns} / columns_of_group * kGroupBytes;
    for (int first = 0; first < kPanelChannels; first += block) {
        const std::byte* weights = panel.weights + first * kColumnGroup;
        if (!panel.multiplier) {
            sum(weights, rows.codes, rows.stride, columns, out + first, kPanelChannels);
            continue;
        }
        for (int r = 0; r < rows.count; ++r)
            for (int c = 0; c < block; ++c) out[r * kPanelChannels + first + c] = 0;
        for (int g = 0; g < panel.groups; ++g) {
            alignas(32) std::int32_t part[kMaxRows * kBlock4];
            sum(weights + g * bytes, rows.codes + g * columns, rows.stride, columns, part, block);
            const std::uint8_t* factors = panel.multiplier + g * kPanelChannels + first;
            for (int r = 0; r < rows.count; ++r)
                for (int c = 0; c < block; ++c) {
                    const std::uint32_t more = static_cast<std::uint32_t>(part[r * block + c]) * factors[c];
                    std::int32_t& place = out[r * kPanelChannels + first + c];
                    place = static_cast<std::int32_t>(static_cast<std::uint32_t>(place) + more);
                }
        }
    }
}

}  // namespace

void tile8(const Panel& panel, const Rows& rows, std::int32_t* sums) {
    static constexpr Sum kByRows[kMaxRows] = {sum8<1>, sum8<2>, sum8<3>};
    run(panel, rows, sums, kByRows[rows.count - 1], kBlock8, kColumnGroup);
}

void tile4(const Panel& panel, const Rows& rows, std::int32_t* sums) {
    static constexpr Sum kByRows[kMaxRows] = {sum4<1>, sum4<2>, sum4<3>};
    run(panel, rows, sums, kByRows[rows.count - 1], kBlock4, kColumnPad);
}

}  // namespace mobilequant::avx2
