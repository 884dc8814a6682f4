// The tile as its definition.
#include "kernels/tile.h"

namespace mobilequant::scalar {
namespace {

int weight8(const std::byte* panel, int column, int channel) {
    const auto* bytes = reinterpret_cast<const std::int8_t*>(panel);
    return bytes[(column / 4 * kPanelChannels + channel) * 4 + column % 4];
}

int weight4(const std::byte* panel, int column, int channel) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(panel);
    const int byte = bytes[(column / 8 * kPanelChannels + channel) * 4 + column % 4];
    const int nibble = column % 8 < 4 ? byte & 15 : byte >> 4;
    return (nibble ^ 8) - 8;
}

template <int (*weight)(const std::byte*, int, int)>
void tile(const Panel& panel, const Rows& rows, std::int32_t* sums) {
    const int group = panel.columns / panel.groups;
    for (int r = 0; r < rows.count; ++r) {
        const std::uint8_t* x = rows.codes + r * rows.stride;
        std::uint32_t totals[kPanelChannels] = {};
        for (int g = 0; g < panel.groups; ++g) {
            std::uint32_t part[kPanelChannels] = {};
            for (int k = g * group; k < (g + 1) * group; ++k)
                for (int c = 0; c < kPanelChannels; ++c)
                    part[c] += static_cast<std::uint32_t>(x[k] * weight(panel.weights, k, c));
            for (int c = 0; c < kPanelChannels; ++c)
                totals[c] += part[c] * (panel.multiplier ? panel.multiplier[g * kPanelChannels + c] : 1u);
        }
        for (int c = 0; c < kPanelChannels; ++c) sums[r * kPanelChannels + c] = static_cast<std::int32_t>(totals[c]);
    }
}

}  // namespace

void tile8(const Panel& panel, const Rows& rows, std::int32_t* sums) { tile<weight8>(panel, rows, sums); }
void tile4(const Panel& panel, const Rows& rows, std::int32_t* sums) { tile<weight4>(panel, rows, sums); }

}  // namespace mobilequant::scalar
