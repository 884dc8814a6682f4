// The one inner loop: rows of unsigned codes times a panel of signed weights.
//
//   panel     32 output channels of a matrix, its columns in groups of four:
//
//     8 bits    [columns/4] [32 channels] [4 columns]      one byte each: 128 bytes per group of columns
//     4 bits    [columns/8] [32 channels] [4 columns]      the low nibble belongs to columns 8j … 8j+3, the high one to
// the
//                                                          next four; two's complement
//
// Columns are padded to a multiple of 8 with weights of 0; rows of codes may be read up to there and hold anything.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mobilequant {

constexpr int kPanelChannels = 32, kColumnGroup = 4, kColumnPad = 8;
constexpr int kMaxTileRows = 12;

struct Panel {
    const std::byte* weights;
    std::int32_t columns;            // padded
    std::int32_t groups;             // of columns that share a multiplier; 1 for weights per channel
    const std::uint8_t* multiplier;  // [groups][32], or nullptr where all are 1
};

struct Rows {
    const std::uint8_t* codes;
    std::ptrdiff_t stride;  // bytes from row to row
    std::int32_t count;     // at most the kernel's `max_rows`
};

// sums[r][c] = Σ_group multiplier · Σ (x − offset) · w, modulo 2^32.
using Tile = void (*)(const Panel& panel, const Rows& rows, std::int32_t* sums);

struct TileKernel {
    Tile run;
    std::int32_t offset;
};

}  // namespace mobilequant
