// AVX-512: 16 lanes of 32 bits.
#include <immintrin.h>

#include <cstdint>

#include "kernels/kernels.h"

namespace mobilequant::avx512 {
namespace {

using Lanes = __m512i;
constexpr int kLanes = 16;

inline Lanes set32(std::int32_t value) { return _mm512_set1_epi32(value); }
inline Lanes load32(const std::int32_t* from) { return _mm512_loadu_si512(from); }
inline void store32(std::int32_t* to, Lanes value) { _mm512_storeu_si512(to, value); }
inline Lanes load8(const std::uint8_t* from) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline Lanes load_codes(const std::uint8_t* from) { return load8(from); }
inline Lanes load_codes(const std::int16_t* from) {
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
inline void store_codes(std::uint8_t* to, Lanes codes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(codes));
}
inline void store_codes(std::int16_t* to, Lanes codes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(codes));
}
inline Lanes add(Lanes a, Lanes b) { return _mm512_add_epi32(a, b); }
inline Lanes sub(Lanes a, Lanes b) { return _mm512_sub_epi32(a, b); }
inline Lanes min(Lanes a, Lanes b) { return _mm512_min_epi32(a, b); }
inline Lanes max(Lanes a, Lanes b) { return _mm512_max_epi32(a, b); }
inline Lanes shift_left(Lanes value, Lanes by) { return _mm512_sllv_epi32(value, by); }
inline Lanes shift_right(Lanes value, Lanes by) { return _mm512_srav_epi32(value, by); }
inline Lanes multiply_even(Lanes a, Lanes b) { return _mm512_mul_epi32(a, b); }  // of lanes 0, 2, …: 64 bits each
inline Lanes multiply32(Lanes a, Lanes b) { return _mm512_mullo_epi32(a, b); }
inline Lanes set64(std::int64_t value) { return _mm512_set1_epi64(value); }
inline Lanes add64(Lanes a, Lanes b) { return _mm512_add_epi64(a, b); }
template <int kBits>
inline Lanes shift_right_64(Lanes value) {
    return _mm512_srli_epi64(value, kBits);
}
template <int kBits>
inline Lanes shift_left_64(Lanes value) {
    return _mm512_slli_epi64(value, kBits);
}
// Even lanes of one, odd lanes of the other.
inline Lanes merge(Lanes even, Lanes odds) { return _mm512_mask_mov_epi32(even, 0xAAAA, odds); }
#include "kernels/x86/products.inl"

inline std::int64_t sum64_of(Lanes value) {
    alignas(64) std::int64_t lanes[kLanes / 2];
    _mm512_store_si512(lanes, value);
    std::int64_t total = 0;
    for (const std::int64_t lane : lanes) total += lane;
    return total;
}
inline std::int64_t sum_of(Lanes value) { return static_cast<std::uint32_t>(_mm512_reduce_add_epi32(value)); }

// 256 entries of 16 bits in registers.
class Entries {
  public:
    explicit Entries(const std::uint16_t* from) {
        for (int i = 0; i < 8; ++i) parts_[i] = _mm512_loadu_si512(from + 32 * i);
    }
    Lanes at(Lanes t) const {
        const __mmask16 bit6 = _mm512_test_epi32_mask(t, set32(64)), bit7 = _mm512_test_epi32_mask(t, set32(128));
        const Lanes low = _mm512_mask_mov_epi32(quarter(0, t), bit6, quarter(1, t));
        const Lanes high = _mm512_mask_mov_epi32(quarter(2, t), bit6, quarter(3, t));
        return _mm512_and_si512(_mm512_mask_mov_epi32(low, bit7, high), set32(0xFFFF));
    }

  private:
    Lanes quarter(int number, Lanes t) const {
        return _mm512_permutex2var_epi16(parts_[2 * number], t, parts_[2 * number + 1]);
    }
    Lanes parts_[8];
};

// VBMI came one generation after VNNI: where it is missing, tables are read byte by byte.
const bool kHasVbmi = __builtin_cpu_supports("avx512vbmi");

__attribute__((target("avx512vbmi"))) std::int64_t look_up_bytes(const std::uint8_t* x, std::uint8_t* y,
                                                                 std::int64_t count, const std::uint8_t* table) {
    const Lanes t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64);
    const Lanes t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
    std::int64_t i = 0;
    for (; i < count; i += 64) {
        const __mmask64 inside = count - i < 64 ? (std::uint64_t{1} << (count - i)) - 1 : ~std::uint64_t{0};
        const Lanes codes = _mm512_maskz_loadu_epi8(inside, x + i);
        const Lanes low = _mm512_permutex2var_epi8(t0, codes, t1), high = _mm512_permutex2var_epi8(t2, codes, t3);
        _mm512_mask_storeu_epi8(y + i, inside, _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(codes), high));
    }
    return count;
}

std::int64_t table8_vectors(const std::uint8_t* x, std::uint8_t* y, std::int64_t count, const std::uint8_t* table) {
    return kHasVbmi ? look_up_bytes(x, y, count, table) : 0;
}
std::int64_t table8_vectors(const std::uint8_t*, std::int16_t*, std::int64_t, const std::int16_t*) { return 0; }

#include "kernels/vectors.inl"
// after what it calls
#include "kernels/elementwise.inl"
#include "kernels/finish_wide.inl"
#include "kernels/finish_vectors.inl"
#include "kernels/softmax_vectors.inl"
#include "kernels/softmax_row.inl"

}  // namespace
#include "kernels/elementwise_table.inl"
}  // namespace mobilequant::avx512
