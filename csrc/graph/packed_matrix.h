// A weight matrix in the layout of the tiles, with what follows its sums.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "kernels/operation.h"
#include "kernels/tile.h"
#include "runtime/aligned.h"

namespace mobilequant {

class PackedMatrix {
  public:
    // `codes` int8 or int4 (O, I), `multiplier` uint8 (O, G) or nullptr. I/G must be a multiple of 8 where G > 1.
    PackedMatrix(const Constant& codes, Array multiplier);

    std::int64_t rows() const { return rows_; }
    std::int64_t columns() const { return columns_; }
    int bits() const { return bits_; }
    std::int64_t panels() const { return (rows_ + kPanelChannels - 1) / kPanelChannels; }
    Panel panel(std::int64_t number) const;

    // Σ of the effective weights of a row: what a step of the input's zero point is worth.
    std::int32_t row_sum(std::int64_t row) const { return row_sums_[static_cast<std::size_t>(row)]; }

    // The codes of one row again.
    void unpack_row(std::int64_t row, std::int8_t* codes) const;

  private:
    std::size_t panel_bytes() const { return static_cast<std::size_t>(padded_) * kPanelChannels * static_cast<std::size_t>(bits_) / 8; }

    int bits_;
    std::int64_t rows_, columns_, padded_, groups_;
    AlignedBytes weights_;
    std::vector<std::uint8_t> multiplier_;  // [panel][group][32]
    std::vector<std::int32_t> row_sums_;
};

}  // namespace mobilequant
