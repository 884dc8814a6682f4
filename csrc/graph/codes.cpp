#include "graph/codes.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace mobilequant {

void read_row(const Constant& codes, std::int64_t row, std::int8_t* out) {
    const std::int64_t columns = codes.shape[1];
    if (codes.dtype == DType::int8) {
        std::memcpy(out, codes.as<std::int8_t>() + row * columns, static_cast<std::size_t>(columns));
        return;
    }
    const std::uint8_t* bytes = codes.as<std::uint8_t>() + row * ((columns + 1) / 2);
    const auto signed4 = [](int nibble) { return static_cast<std::int8_t>((nibble ^ 8) - 8); };
    for (std::int64_t i = 0; i < columns / 2; ++i) {
        out[2 * i] = signed4(bytes[i] & 15);
        out[2 * i + 1] = signed4(bytes[i] >> 4);
    }
    if (columns % 2) out[columns - 1] = signed4(bytes[columns / 2] & 15);
}

CodeSums sum_codes(const std::int8_t* codes, std::int64_t count) {
    constexpr std::int64_t kAtOnce = 256;  // of which 128 each fit 16 bits: twice as many lanes, and no detour by 32
    CodeSums total{0, 0};
    for (std::int64_t start = 0; start < count; start += kAtOnce) {
        std::int16_t sum = 0;
        std::uint16_t magnitude = 0;
        for (std::int64_t i = start; i < std::min(count, start + kAtOnce); ++i) {
            sum = static_cast<std::int16_t>(sum + codes[i]);
            magnitude = static_cast<std::uint16_t>(magnitude + std::abs(codes[i]));
        }
        total.sum += sum, total.magnitude += magnitude;
    }
    return total;
}

}  // namespace mobilequant
