// Rescale factors of many channels as the kernels want them (ChannelFactors).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/operation.h"

namespace mobilequant {

class FactorTable {
  public:
    // For `count` channels, a multiple of kPanelChannels; those that are never set give the zero point.
    FactorTable(std::int64_t count, const Format& to);

    // `bound`: what |sum + bias| cannot exceed.
    void set(std::int64_t channel, std::int32_t bias, std::int32_t mantissa, int shift, std::int64_t bound);

    // When all are set: the narrow form where every channel allows it.
    void finish();

    ChannelFactors from(std::int64_t channel) const {
        return {bias_.data() + channel,
                mantissa_.data() + channel,
                shift_.data() + channel,
                raise_.data() + channel,
                narrow_,
                to_};
    }

  private:
    Format to_;
    bool narrow_ = true;
    std::vector<std::int32_t> bias_, mantissa_;
    std::vector<std::uint8_t> shift_, raise_;
};

}  // namespace mobilequant
