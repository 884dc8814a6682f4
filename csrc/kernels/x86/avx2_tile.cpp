// AVX2 without VNNI.
//
// 8 bits: codes and weights widened to 16 bits, vpmaddwd.
// 4 bits: vpmaddubsw of codes, unsigned, with weights, signed. Two products come to 255 · 8 · 2 = 4,080 at most, so the
// sums of 8 groups of columns fit 16 bits.
#include <immintrin.h>

#include "kernels/tile.h"

namespace mobilequant::avx2 {
namespace {

constexpr int kGroupBytes = kPanelChannels * kColumnGroup;
constexpr int kMaxRows = 6;

inline __m256i load(const std::byte* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

// Makes a sum here and nowhere else: gcc 12 adds products to each other first, and keeps the sums in memory meanwhile.
inline void keep(__m256i& sum) { asm("" : "+x"(sum)); }

inline std::int32_t four_codes(const std::uint8_t* codes) {
    std::int32_t four;
    __builtin_memcpy(&four, codes, sizeof four);
    return four;
}

// ── 8 bits: four channels in a register, two partial sums for each ───────────────────────────────────────────────────

constexpr int kVectors8 = 4, kBlock8 = 4 * kVectors8;
constexpr int kRows8 = 3;  // whose sums fit the registers

template <int R>
void sum8(const std::byte* weights, const std::uint8_t* codes, std::ptrdiff_t stride, int columns, std::int32_t* out,
          std::int32_t out_stride) {
    __m256i sums[R][kVectors8];
    for (auto& row : sums)
        for (__m256i& sum : row) sum = _mm256_setzero_si256();
    for (int k = 0; k < columns; k += kColumnGroup, weights += kGroupBytes) {
        __m256i w[kVectors8];
        for (int v = 0; v < kVectors8; ++v)
            w[v] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights) + v));
        for (int r = 0; r < R; ++r) {
            const __m256i four = _mm256_cvtepu8_epi16(_mm_set1_epi32(four_codes(codes + r * stride + k)));
            for (int v = 0; v < kVectors8; ++v)
                sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(w[v], four));
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

// ── 4 bits: eight channels in a register, two partial sums of 16 bits for each ───────────────────────────────────────

constexpr int kChannels4 = 8, kColumnsAtOnce = 32;
// A row alone is as fast as its weights come, and takes the whole panel; six share half of one.
constexpr int registers_for(int rows) { return rows <= 2 ? 4 : 2; }

// Weights of columns 0 … 3 (low nibbles) or 4 … 7 of eight as signed bytes.
inline __m256i signed_nibbles(__m256i nibbles) {
    const __m256i values =
        _mm256_broadcastsi128_si256(_mm_set_epi8(-1, -2, -3, -4, -5, -6, -7, -8, 7, 6, 5, 4, 3, 2, 1, 0));
    return _mm256_shuffle_epi8(values, _mm256_and_si256(nibbles, _mm256_set1_epi8(0x0F)));
}

template <int V, int R>
inline void add_products(__m256i (&sums)[R][V], const __m256i (&w)[V], const std::uint8_t* codes,
                         std::ptrdiff_t stride) {
    for (int r = 0; r < R; ++r) {
        const __m256i four = _mm256_set1_epi32(four_codes(codes + r * stride));
        for (int v = 0; v < V; ++v) {
            sums[r][v] = _mm256_add_epi16(sums[r][v], _mm256_maddubs_epi16(four, w[v]));
            keep(sums[r][v]);
        }
    }
}

template <int R>
void sum4(const std::byte* weights, const std::uint8_t* codes, std::ptrdiff_t stride, int columns, std::int32_t* out,
          std::int32_t out_stride) {
    constexpr int V = registers_for(R);
    for (int start = 0; start < columns; start += kColumnsAtOnce) {
        const int end = start + kColumnsAtOnce < columns ? start + kColumnsAtOnce : columns;
        __m256i sums[R][V];
        for (auto& row : sums)
            for (__m256i& sum : row) sum = _mm256_setzero_si256();
        for (int k = start; k < end; k += kColumnPad, weights += kGroupBytes) {
            __m256i w[V];
            for (int v = 0; v < V; ++v) w[v] = signed_nibbles(load(weights + v * sizeof(__m256i)));
            add_products(sums, w, codes + k, stride);
            for (int v = 0; v < V; ++v)
                w[v] = signed_nibbles(_mm256_srli_epi16(load(weights + v * sizeof(__m256i)), 4));
            add_products(sums, w, codes + k + kColumnGroup, stride);
        }
        for (int r = 0; r < R; ++r) {
            for (int v = 0; v < V; ++v) {
                auto* place = reinterpret_cast<__m256i*>(out + r * out_stride) + v;
                const __m256i wide = _mm256_madd_epi16(sums[r][v], _mm256_set1_epi16(1));
                _mm256_storeu_si256(place, start == 0 ? wide : _mm256_add_epi32(_mm256_loadu_si256(place), wide));
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
            alignas(32) std::int32_t part[kMaxRows * kPanelChannels];
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
    static constexpr Sum kByRows[kRows8] = {sum8<1>, sum8<2>, sum8<3>};
    for (std::int32_t done = 0; done < rows.count; done += kRows8) {
        const std::int32_t count = rows.count - done < kRows8 ? rows.count - done : kRows8;
        run(panel, {rows.codes + done * rows.stride, rows.stride, count}, sums + done * kPanelChannels,
            kByRows[count - 1], kBlock8, kColumnGroup);
    }
}

void tile4(const Panel& panel, const Rows& rows, std::int32_t* sums) {
    static constexpr Sum kByRows[kMaxRows] = {sum4<1>, sum4<2>, sum4<3>, sum4<4>, sum4<5>, sum4<6>};
    run(panel, rows, sums, kByRows[rows.count - 1], kChannels4 * registers_for(rows.count), kColumnPad);
}

}  // namespace mobilequant::avx2
