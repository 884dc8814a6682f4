#include "runtime/steps/product.h"

#include <algorithm>
#include <cstdlib>

namespace mobilequant {
namespace {

// Codes of 16 bits as two rows of unsigned codes: x = 256 · (high − 128) + low.
void split_codes(const std::int16_t* x, std::int64_t count, std::uint8_t* high, std::uint8_t* low) {
    for (std::int64_t i = 0; i < count; ++i) {
        high[i] = static_cast<std::uint8_t>((x[i] >> 8) + 128);
        low[i] = static_cast<std::uint8_t>(x[i] & 255);
    }
}

const TileKernel& tile_of(const PackedMatrix& codes, const Kernels& kernels) {
    return codes.bits() == 8 ? kernels.tile8 : kernels.tile4;
}

// Sums of both planes → sums of the codes, modulo 2^32.
void join_planes(const std::int32_t* high, std::int32_t* sums) {
    const std::int32_t* low = high + kPanelChannels;
    for (int c = 0; c < kPanelChannels; ++c)
        sums[c] =
            static_cast<std::int32_t>(256u * static_cast<std::uint32_t>(high[c]) + static_cast<std::uint32_t>(low[c]));
}

// What follows the sums of each row: bias, the zero point of the input, and what the tile takes from each code.
FactorTable factors_of(const Linear& op, const PackedMatrix& codes, const Site& site) {
    const Tensor& input = site.tensor(op.input);
    const std::int64_t offset = tile_of(codes, site.kernels).offset,
                       largest = std::max(std::abs(input.qmin), input.qmax);
    const std::int64_t each = site.type(op.input) == 1 ? 256 * (offset - 128) + offset : offset - input.zero_point;
    const auto* mantissa = op.rescale.mantissa->as<std::int32_t>();
    const auto* shift = op.rescale.shift->as<std::int8_t>();
    FactorTable table(codes.panels() * kPanelChannels, site.format(op.output));
    for (std::int64_t o = 0; o < codes.rows(); ++o) {
        const std::int64_t bias = op.bias ? op.bias->as<std::int32_t>()[o] : 0, sum = codes.row_sum(o);
        const std::int64_t bound = codes.row_magnitude(o) * largest + std::abs(sum * input.zero_point) + std::abs(bias);
        table.set(o, static_cast<std::int32_t>(static_cast<std::uint32_t>(bias + each * sum)), mantissa[o], shift[o],
                  bound);
    }
    table.finish();
    return table;
}

}  // namespace

Product::Product(const Linear& op, const Site& site, const PackedMatrix& codes)
    : codes_(codes),
      from_(site.place(op.input)),
      wide_(site.type(op.input) == 1),
      max_rows_(site.kernels.max_rows),
      tile_(tile_of(codes, site.kernels).run),
      finish_(site.kernels.rows->finish[site.type(op.output)]),
      factors_(factors_of(op, codes, site)) {}

Product::Prepared Product::prepare(const Call& call, const Member& member) const {
    Prepared planes(wide_ ? static_cast<std::size_t>(2 * call.rows * plane_stride()) : 0);
    for (std::int64_t row = call.first; wide_ && row < call.rows; ++row) {
        const auto* x = reinterpret_cast<const std::int16_t*>(call.row(from_, row, member));
        std::uint8_t* high = planes.data() + 2 * row * plane_stride();
        split_codes(x, codes_.columns(), high, high + plane_stride());
    }
    return planes;
}

Rows Product::rows(const Call& call, const Member& member, const Prepared& prepared, std::int64_t row,
                   int count) const {
    if (wide_) return {prepared.data() + 2 * row * plane_stride(), plane_stride(), 2 * count};
    return {reinterpret_cast<const std::uint8_t*>(call.row(from_, row, member)),
            static_cast<std::ptrdiff_t>(from_.stride), count};
}

void Product::sum(const Call& call, const Member& member, const Prepared& prepared, std::int64_t panel,
                  std::int64_t row, int count, std::int32_t* sums) const {
    const Rows codes = rows(call, member, prepared, row, count);
    if (!wide_) return tile_(codes_.panel(panel), codes, sums);
    alignas(64) std::int32_t planes[kMaxTileRows * kPanelChannels];
    tile_(codes_.panel(panel), codes, planes);
    for (int r = 0; r < count; ++r) join_planes(planes + 2 * r * kPanelChannels, sums + r * kPanelChannels);
}

}  // namespace mobilequant
