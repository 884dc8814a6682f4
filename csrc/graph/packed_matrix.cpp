#include "graph/packed_matrix.h"

#include <cstring>

#include "graph/codes.h"
#include "package/error.h"

namespace mobilequant {
namespace {

// Tiles that use a nibble as the high half of a byte form 16 times the sum of a group: 16 · 8 · 255 of each column.
constexpr std::int64_t kMaxColumns4 = ((std::int64_t{1} << 31) - 1) / (16 * 8 * 255);

void pack_row8(const std::int8_t* codes, std::int64_t columns, std::byte* lane) {
    for (std::int64_t k = 0; k < columns; k += kColumnGroup, lane += kPanelChannels * kColumnGroup)
        std::memcpy(lane, codes + k, kColumnGroup);
}

void pack_row4(const std::int8_t* codes, std::int64_t columns, std::byte* lane) {
    for (std::int64_t k = 0; k < columns; k += kColumnPad, lane += kPanelChannels * kColumnGroup)
        for (int i = 0; i < kColumnGroup; ++i)
            lane[i] = static_cast<std::byte>((codes[k + i] & 15) | (codes[k + kColumnGroup + i] & 15) << 4);
}

}  // namespace

PackedMatrix::PackedMatrix(const Constant& codes, Array multiplier)
    : codes_(&codes),
      multiplier_(multiplier),
      bits_(codes.dtype == DType::int4 ? 4 : 8),
      rows_(codes.shape[0]),
      columns_(codes.shape[1]),
      padded_((columns_ + kColumnPad - 1) / kColumnPad * kColumnPad),
      groups_(multiplier ? multiplier->shape[1] : 1),
      panels_(static_cast<std::size_t>(panels())),
      row_sums_(static_cast<std::size_t>(rows_)),
      row_magnitudes_(row_sums_.size()) {
    const std::int64_t group = columns_ / groups_;
    require(groups_ == 1 || group % kColumnPad == 0, codes.name + ": groups must be a multiple of 8 wide");
    require(bits_ == 8 || group <= kMaxColumns4, codes.name + ": a group of 4-bit codes is too wide");
}

void PackedMatrix::pack(const MappedFile& file) {
    std::vector<std::int8_t> row(static_cast<std::size_t>(padded_));
    for (std::int64_t o = 0; o < rows_; ++o) {
        read_row(*codes_, o, row.data());
        std::byte* lane = panels_[static_cast<std::size_t>(o / kPanelChannels)] + o % kPanelChannels * kColumnGroup;
        bits_ == 8 ? pack_row8(row.data(), padded_, lane) : pack_row4(row.data(), padded_, lane);
        measure_row(o, row.data());
    }
    file.release({codes_->data, codes_->size_bytes});
}

std::uint8_t* PackedMatrix::multiplier(std::int64_t row, std::int64_t group) const {
    std::byte* behind = panels_[static_cast<std::size_t>(row / kPanelChannels)] + weight_bytes();
    return reinterpret_cast<std::uint8_t*>(behind) + group * kPanelChannels + row % kPanelChannels;
}

void PackedMatrix::measure_row(std::int64_t row, const std::int8_t* codes) {
    const std::int64_t group = columns_ / groups_;
    std::int64_t sum = 0, magnitude = 0;
    for (std::int64_t g = 0; g < groups_; ++g) {
        const std::uint8_t factor = multiplier_ ? multiplier_->as<std::uint8_t>()[row * groups_ + g] : 1;
        if (multiplier_) *multiplier(row, g) = factor;
        const CodeSums part = sum_codes(codes + g * group, group);
        sum += part.sum * factor, magnitude += part.magnitude * factor;
    }
    row_sums_[static_cast<std::size_t>(row)] = sum, row_magnitudes_[static_cast<std::size_t>(row)] = magnitude;
}

Panel PackedMatrix::panel(std::int64_t number) const {
    return {panels_[static_cast<std::size_t>(number)], static_cast<std::int32_t>(padded_),
            static_cast<std::int32_t>(groups_), multiplier_ ? multiplier(number * kPanelChannels, 0) : nullptr};
}

void PackedMatrix::unpack_row(std::int64_t row, std::int8_t* codes) const {
    const auto* lane =
        reinterpret_cast<const std::int8_t*>(panel(row / kPanelChannels).weights) + row % kPanelChannels * kColumnGroup;
    for (std::int64_t i = 0; i < columns_; ++i) {
        const std::int64_t step = bits_ == 8 ? kColumnGroup : kColumnPad, within = i % step;
        const std::int8_t byte = lane[i / step * kPanelChannels * kColumnGroup + within % kColumnGroup];
        if (bits_ == 8)
            codes[i] = byte;
        else
            codes[i] = static_cast<std::int8_t>((((within < kColumnGroup ? byte : byte >> 4) & 15) ^ 8) - 8);
    }
}

}  // namespace mobilequant
