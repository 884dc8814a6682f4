// A weight matrix in the layout of the tiles, with what is known of its rows.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "kernels/tile.h"
#include "package/mapped_file.h"

namespace mobilequant {

class PackedMatrix {
  public:
    // `codes` int8 or int4 (O, I), `multiplier` uint8 (O, G) or nullptr; both must outlive `pack`.
    // Throws PackageError: more than one group, and groups that are no multiple of 8 wide.
    PackedMatrix(const Constant& codes, Array multiplier);

    // Bytes of a panel with the multipliers behind it.
    std::size_t panel_bytes() const { return weight_bytes() + multiplier_bytes(); }

    // Where a panel is to lie: zero until `pack`, a multiple of 64, and there as long as the matrix.
    void place(std::int64_t panel, std::byte* memory) { panels_[static_cast<std::size_t>(panel)] = memory; }

    // Fills all panels. Pages of `file` that were read are released.
    void pack(const MappedFile& file);

    std::int64_t rows() const { return rows_; }
    std::int64_t columns() const { return columns_; }
    int bits() const { return bits_; }
    std::int64_t panels() const { return (rows_ + kPanelChannels - 1) / kPanelChannels; }
    Panel panel(std::int64_t number) const;

    // Σ w of a row, multipliers included: what a step of the input's zero point is worth. And Σ |w|.
    std::int64_t row_sum(std::int64_t row) const { return row_sums_[static_cast<std::size_t>(row)]; }
    std::int64_t row_magnitude(std::int64_t row) const { return row_magnitudes_[static_cast<std::size_t>(row)]; }

    // The codes of one row again.
    void unpack_row(std::int64_t row, std::int8_t* codes) const;

  private:
    std::size_t weight_bytes() const {
        return static_cast<std::size_t>(padded_) * kPanelChannels * static_cast<std::size_t>(bits_) / 8;
    }
    std::size_t multiplier_bytes() const {
        return multiplier_ ? (static_cast<std::size_t>(groups_) * kPanelChannels + 63) / 64 * 64 : 0;
    }
    std::uint8_t* multiplier(std::int64_t row, std::int64_t group) const;
    void measure_row(std::int64_t row, const std::int8_t* codes);

    Array codes_, multiplier_;
    int bits_;
    std::int64_t rows_, columns_, padded_, groups_;
    std::vector<std::byte*> panels_;
    std::vector<std::int64_t> row_sums_, row_magnitudes_;
};

}  // namespace mobilequant
