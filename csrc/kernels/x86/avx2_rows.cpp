// AVX2: 8 lanes of 32 bits.
#include <immintrin.h>

#include <cstdint>

#include "kernels/kernels.h"

namespace mobilequant::avx2 {
namespace {

using Lanes = __m256i;
constexpr int kLanes = 8;

inline Lanes set32(std::int32_t value) { return _mm256_set1_epi32(value); }
inline Lanes load32(const std::int32_t* from) { return _mm256_loadu_si256(reinterpret_cast<const Lanes*>(from)); }
inline void store32(std::int32_t* to, Lanes value) { _mm256_storeu_si256(reinterpret_cast<Lanes*>(to), value); }
inline Lanes load8(const std::uint8_t* from) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
}
inline Lanes load_codes(const std::uint8_t* from) { return load8(from); }
inline Lanes load_codes(const std::int16_t* from) {
    return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline void store_codes(std::uint8_t* to, Lanes codes) {
    const __m256i bytes = _mm256_shuffle_epi8(codes, _mm256_set1_epi32(0x0C080400));
    const std::int32_t low = _mm256_extract_epi32(bytes, 0), high = _mm256_extract_epi32(bytes, 4);
    __builtin_memcpy(to, &low, 4), __builtin_memcpy(to + 4, &high, 4);
}
inline void store_codes(std::int16_t* to, Lanes codes) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(codes, codes), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(words));
}
inline Lanes add(Lanes a, Lanes b) { return _mm256_add_epi32(a, b); }
inline Lanes sub(Lanes a, Lanes b) { return _mm256_sub_epi32(a, b); }
inline Lanes min(Lanes a, Lanes b) { return _mm256_min_epi32(a, b); }
inline Lanes max(Lanes a, Lanes b) { return _mm256_max_epi32(a, b); }
inline Lanes shift_left(Lanes value, Lanes by) { return _mm256_sllv_epi32(value, by); }
inline Lanes shift_right(Lanes value, Lanes by) { return _mm256_srav_epi32(value, by); }
inline Lanes multiply_even(Lanes a, Lanes b) { return _mm256_mul_epi32(a, b); }  // of lanes 0, 2, …: 64 bits each
inline Lanes multiply32(Lanes a, Lanes b) { return _mm256_mullo_epi32(a, b); }
inline Lanes set64(std::int64_t value) { return _mm256_set1_epi64x(value); }
inline Lanes add64(Lanes a, Lanes b) { return _mm256_add_epi64(a, b); }
template <int kBits>
inline Lanes shift_right_64(Lanes value) {
    return _mm256_srli_epi64(value, kBits);
}
template <int kBits>
inline Lanes shift_left_64(Lanes value) {
    return _mm256_slli_epi64(value, kBits);
}
// Even lanes of one, odd lanes of the other.
inline Lanes merge(Lanes even, Lanes odds) { return _mm256_blend_epi32(even, odds, 0xAA); }
#include "kernels/x86/products.inl"

inline std::int64_t sum64_of(Lanes value) {
    alignas(64) std::int64_t lanes[kLanes / 2];
    _mm256_store_si256(reinterpret_cast<Lanes*>(lanes), value);
    std::int64_t total = 0;
    for (const std::int64_t lane : lanes) total += lane;
    return total;
}
inline std::int64_t sum_of(Lanes value) {
    alignas(32) std::uint32_t lanes[kLanes];
    _mm256_store_si256(reinterpret_cast<Lanes*>(lanes), value);
    std::int64_t total = 0;
    for (const std::uint32_t lane : lanes) total += lane;
    return total;
}

// 256 entries of 16 bits, looked up as pairs from one entry before, whose upper half is wanted.
class Entries {
  public:
    explicit Entries(const std::uint16_t* from) : from_(from) {}
    Lanes at(Lanes t) const {
        const Lanes index = _mm256_and_si256(t, set32(255));
        return _mm256_srli_epi32(_mm256_i32gather_epi32(reinterpret_cast<const int*>(from_ - 1), index, 2), 16);
    }

  private:
    const std::uint16_t* from_;
};

template <class Out>
static std::int64_t table8_vectors(const std::uint8_t*, Out*, std::int64_t, const Out*) {
    return 0;
}

#include "kernels/vectors.inl"
// after what it calls
#include "kernels/elementwise.inl"
#include "kernels/finish_wide.inl"
#include "kernels/finish_vectors.inl"
#include "kernels/softmax_vectors.inl"
#include "kernels/softmax_row.inl"

}  // namespace
#include "kernels/elementwise_table.inl"
}  // namespace mobilequant::avx2
