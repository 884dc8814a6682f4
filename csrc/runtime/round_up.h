// Whole units.
#pragma once

#include <cstdint>

namespace mobilequant {

constexpr std::int64_t round_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace mobilequant
