// AVX-VNNI, 256 bits: half a panel for one row, read in one go; a quarter where the sums of six rows stand beside it, twelve
// registers, of which ten must be under way to keep two units busy that answer after five cycles.
#include <immintrin.h>

#include "kernels/tile.h"

// The same instruction has an encoding of its own in AVX-512: with it, machines that lack AVX-VNNI can test this file.
#if defined(__AVXVNNI__)
#define MQ_DOT _mm256_dpbusd_avx_epi32
#else
#define MQ_DOT _mm256_dpbusd_epi32
#endif

namespace mobilequant::avxvnni {
namespace {

using Vector = __m256i;
constexpr int kLanes = 8, kMaxRows = 6;
constexpr int registers_for(int rows) { return rows == 1 ? 4 : 2; }

inline Vector broadcast32(std::int32_t value) { return _mm256_set1_epi32(value); }
inline Vector load(const std::byte* from) { return _mm256_loadu_si256(reinterpret_cast<const Vector*>(from)); }
inline void store(std::int32_t* to, Vector value) { _mm256_storeu_si256(reinterpret_cast<Vector*>(to), value); }
inline Vector dot(Vector sums, Vector codes, Vector weights) { return MQ_DOT(sums, codes, weights); }
inline void keep(Vector& sum) { asm("" : "+x"(sum)); }  // gcc 12 else stores all of them in every turn of a loop
inline Vector shift_left_4(Vector value) { return _mm256_slli_epi16(value, 4); }
inline Vector high_nibbles(Vector value) { return _mm256_and_si256(value, _mm256_set1_epi8(static_cast<char>(0xF0))); }
inline Vector add32(Vector a, Vector b) { return _mm256_add_epi32(a, b); }
inline Vector multiply32(Vector a, Vector b) { return _mm256_mullo_epi32(a, b); }
inline Vector widen(const std::uint8_t* from) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
}

template <int kShift>
inline Vector shift_right(Vector value) {
    return _mm256_srai_epi32(value, kShift);
}

#include "kernels/x86/vnni_tile.inl"

template <class Weights>
constexpr Tile kByRows[kMaxRows] = {tile_rows<Weights, 1>, tile_rows<Weights, 2>, tile_rows<Weights, 3>,
                                    tile_rows<Weights, 4>, tile_rows<Weights, 5>, tile_rows<Weights, 6>};

}  // namespace

void tile8(const Panel& panel, const Rows& rows, std::int32_t* sums) {
    kByRows<Weights8>[rows.count - 1](panel, rows, sums);
}
void tile4(const Panel& panel, const Rows& rows, std::int32_t* sums) {
    kByRows<Weights4>[rows.count - 1](panel, rows, sums);
}

}  // namespace mobilequant::avxvnni
