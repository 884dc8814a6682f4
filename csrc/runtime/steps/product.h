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

    // Codes of the channels of a panel for `count` rows from `row` on, `stride` bytes from row to row.
    void run(const Call& call, const Member& member, const Prepared& prepared, std::int64_t panel, std::int64_t row,
             int count, std::byte* out, std::ptrdiff_t stride) const;

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
