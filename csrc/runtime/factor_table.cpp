#include "runtime/factor_table.h"

namespace mobilequant {
FactorTable::FactorTable(std::int64_t count, const Format& to)
    : to_(to),
      bias_(static_cast<std::size_t>(count)),
      mantissa_(bias_.size()),
      shift_(bias_.size(), kNarrowShift),
      raise_(bias_.size()) {}

void FactorTable::set(std::int64_t channel, std::int32_t bias, std::int32_t mantissa, int shift, std::int64_t bound) {
    const auto c = static_cast<std::size_t>(channel);
    bias_[c] = bias, mantissa_[c] = mantissa;
    shift_[c] = static_cast<std::uint8_t>(shift), raise_[c] = static_cast<std::uint8_t>(raise_of(shift));
    narrow_ = narrow_ && is_narrow(shift, bound);
}

void FactorTable::finish() {
    for (std::size_t c = 0; narrow_ && c < shift_.size(); ++c)
        shift_[c] = static_cast<std::uint8_t>(shift_[c] + raise_[c] - 32);
}

}  // namespace mobilequant
