// Every 64-bit Arm processor: 4 lanes of 32 bits.
#include <arm_neon.h>

#include <cstdint>

#include "kernels/kernels.h"

namespace mobilequant::neon {
namespace {

using Lanes = int32x4_t;
constexpr int kLanes = 4;

inline Lanes set32(std::int32_t value) { return vdupq_n_s32(value); }
inline Lanes load32(const std::int32_t* from) { return vld1q_s32(from); }
inline void store32(std::int32_t* to, Lanes value) { vst1q_s32(to, value); }
inline Lanes load8(const std::uint8_t* from) {
    std::uint32_t four;
    __builtin_memcpy(&four, from, sizeof four);
    const uint16x8_t words = vmovl_u8(vcreate_u8(four));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words)));
}
inline Lanes load_codes(const std::uint8_t* from) { return load8(from); }
inline Lanes load_codes(const std::int16_t* from) { return vmovl_s16(vld1_s16(from)); }
inline void store_codes(std::uint8_t* to, Lanes codes) {
    const uint16x4_t words = vreinterpret_u16_s16(vmovn_s32(codes));
    const std::uint32_t four = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words))), 0);
    __builtin_memcpy(to, &four, sizeof four);
}
inline void store_codes(std::int16_t* to, Lanes codes) { vst1_s16(to, vmovn_s32(codes)); }
inline Lanes add(Lanes a, Lanes b) { return vaddq_s32(a, b); }
inline Lanes sub(Lanes a, Lanes b) { return vsubq_s32(a, b); }
inline Lanes min(Lanes a, Lanes b) { return vminq_s32(a, b); }
inline Lanes max(Lanes a, Lanes b) { return vmaxq_s32(a, b); }
inline Lanes shift_left(Lanes value, Lanes by) { return vshlq_s32(value, by); }
inline Lanes shift_right(Lanes value, Lanes by) { return vshlq_s32(value, vnegq_s32(by)); }
inline Lanes multiply32(Lanes a, Lanes b) { return vmulq_s32(a, b); }
inline std::int64_t sum_of(Lanes value) { return static_cast<std::int64_t>(vaddlvq_u32(vreinterpretq_u32_s32(value))); }

// What many lanes are multiplied by.
using Multiplier = Lanes;

// The high halves of all products.
inline Lanes high_products(Lanes a, Multiplier by) {
    const int64x2_t low = vmull_s32(vget_low_s32(a), vget_low_s32(by)), high = vmull_high_s32(a, by);
    return vuzp2q_s32(vreinterpretq_s32_s64(low), vreinterpretq_s32_s64(high));
}

// (a · b + 2^14) >> 15, modulo 2^32.
inline Lanes rounded_products_15(Lanes a, Lanes b) {
    const int32x2_t low = vrshrn_n_s64(vmull_s32(vget_low_s32(a), vget_low_s32(b)), 15);
    return vrshrn_high_n_s64(low, vmull_high_s32(a, b), 15);
}

using WideSums = int64x2_t;
inline WideSums no_sums() { return vdupq_n_s64(0); }
inline WideSums add_squares(WideSums sums, Lanes value) {
    return vmlal_high_s32(vmlal_s32(sums, vget_low_s32(value), vget_low_s32(value)), value, value);
}
inline std::int64_t sum64_of(WideSums sums) { return vaddvq_s64(sums); }

// 256 entries of 16 bits.
class Entries {
  public:
    explicit Entries(const std::uint16_t* from) : from_(from) {}
    Lanes at(Lanes t) const {
        return Lanes{from_[t[0] & 255], from_[t[1] & 255], from_[t[2] & 255], from_[t[3] & 255]};
    }

  private:
    const std::uint16_t* from_;
};

// 64 entries by one instruction; those of other quarters leave what stands there.
std::int64_t table8_vectors(const std::uint8_t* x, std::uint8_t* y, std::int64_t count, const std::uint8_t* table) {
    const uint8x16x4_t quarters[] = {vld1q_u8_x4(table), vld1q_u8_x4(table + 64), vld1q_u8_x4(table + 128),
                                     vld1q_u8_x4(table + 192)};
    const uint8x16_t quarter = vdupq_n_u8(64);
    std::int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
        uint8x16_t index = vld1q_u8(x + i), found = vqtbl4q_u8(quarters[0], index);
        for (int q = 1; q < 4; ++q) {
            index = vsubq_u8(index, quarter);
            found = vqtbx4q_u8(found, quarters[q], index);
        }
        vst1q_u8(y + i, found);
    }
    return i;
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
}  // namespace mobilequant::neon
