// A matrix product, a panel of output channels and a few rows at a time.
#pragma once

#include <vector>

#include "runtime/factor_table.h"
#include "runtime/steps/rowwise.h"

namespace mobilequant {

class Product {
  public:
    Product(const Linear& op, const Site& site, const PackedMatrix& codes);

    std::int64_t panels() const { return codes_.panels(); }
    std::int64_t channels() const { return codes_.rows(); }

    // Rows that may be asked for at once.
    int max_rows() const { return wide_ ? max_rows_ / 2 : max_rows_; }

    // What a member needs of all rows of a call before it begins: nothing for 8-bit inputs, two planes for 16 bits.
    using Prepared = std::vector<std::uint8_t>;
    Prepared prepare(const Call& call, const Member& member) const;

    // Sums of the channels of a panel for `count` rows from `row` on: (count, kPanelChannels).
    void sum(const Call& call, const Member& member, const Prepared& prepared, std::int64_t panel, std::int64_t row,
             int count, std::int32_t* sums) const;

    // Their codes, for the channels of `panel` and what stands behind them; `stride` bytes from row to row.
    void finish(std::int64_t panel, const SumRows& sums, std::byte* out, std::ptrdiff_t stride) const {
        finish_(sums, out, stride, factors_.from(panel * kPanelChannels));
    }

  private:
    Rows rows(const Call& call, const Member& member, const Prepared& prepared, std::int64_t row, int count) const;
    std::ptrdiff_t plane_stride() const { return (codes_.columns() + kColumnPad - 1) / kColumnPad * kColumnPad; }

    const PackedMatrix& codes_;
    Place from_;
    bool wide_;
    int max_rows_;
    Tile tile_;
    void (*finish_)(const SumRows&, void*, std::ptrdiff_t, const ChannelFactors&);
    FactorTable factors_;
};

}  // namespace mobilequant
