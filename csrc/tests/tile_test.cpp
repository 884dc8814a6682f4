// Every kind of tile against the scalar one, and the scalar one against the definition of a matrix product.
#include <string>
#include <vector>

#include "graph/packed_matrix.h"
#include "kernels/kernels.h"
#include "runtime/aligned.h"
#include "tests/check.h"
#include "tests/draw.h"

namespace mobilequant {

#if defined(__x86_64__)
// kernels/x86/avxvnni_tile.cpp, compiled again with the encoding that the instruction has in AVX-512.
namespace avxvnni_evex {
void tile8(const Panel&, const Rows&, std::int32_t*);
void tile4(const Panel&, const Rows&, std::int32_t*);
}  // namespace avxvnni_evex
#endif

namespace scalar {
void tile8(const Panel&, const Rows&, std::int32_t*);
void tile4(const Panel&, const Rows&, std::int32_t*);
}  // namespace scalar

namespace {

using test::Draw, test::Heap;
using Sums = std::vector<std::int32_t>;

struct Variant {
    std::string name;
    int max_rows;
    TileKernel tile8, tile4;
};

std::vector<Variant> variants() {
    std::vector<Variant> found;
    for (const Kernels& each : all_kernels()) {
        if (each.supported())
            found.push_back({std::string(each.name), each.max_rows, each.tile8, each.tile4});
        else
            std::printf("skipped: this machine cannot run %s\n", each.name.data());
#if defined(__x86_64__)
        if (each.name == "avx-vnni" && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl")) {
            const TileKernel tile8{avxvnni_evex::tile8, each.tile8.offset},
                tile4{avxvnni_evex::tile4, each.tile4.offset};
            found.push_back({"avx-vnni (as AVX-512)", each.max_rows, tile8, tile4});
        }
#endif
    }
    return found;
}

Sums run(const Tile tile, const Panel& panel, const Rows& rows) {
    Heap<std::int32_t> sums(static_cast<std::size_t>(rows.count) *
                            kPanelChannels);  // only what was asked for may be written
    tile(panel, rows, sums.data());
    return {sums.data(), sums.data() + sums.size()};
}

// What a tile with an offset gives: Σ m·x·w − offset · Σ m·w, modulo 2^32.
Sums expected(const Tile scalar, const Panel& panel, const Rows& rows, std::int32_t offset) {
    const Heap<std::uint8_t> ones = [&] {
        Heap<std::uint8_t> made(static_cast<std::size_t>(panel.columns));
        for (std::size_t i = 0; i < made.size(); ++i) made[i] = 1;
        return made;
    }();
    Sums sums = run(scalar, panel, rows);
    const Sums weights = run(scalar, panel, {ones.data(), 0, 1});
    for (std::size_t i = 0; i < sums.size(); ++i)
        sums[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[i]) -
                                            static_cast<std::uint32_t>(offset) *
                                                static_cast<std::uint32_t>(weights[i % kPanelChannels]));
    return sums;
}

// One panel and some rows; `extreme` has only ends of the ranges in it.
void compare(const Variant& variant, int bits, int columns, int groups, int count, bool extreme, Draw& draw) {
    const auto pick = [&](std::int64_t low, std::int64_t high) {
        return extreme ? (draw.once_in(2) ? low : high) : draw.edgy(low, high);
    };
    Heap<std::byte> weights(static_cast<std::size_t>(columns) * kPanelChannels * static_cast<std::size_t>(bits) / 8);
    for (std::size_t i = 0; i < weights.size(); ++i)
        weights[i] = static_cast<std::byte>(bits == 8 ? pick(-128, 127) : (pick(-8, 7) & 15) | (pick(-8, 7) & 15) << 4);
    Heap<std::uint8_t> multiplier(groups > 1 ? static_cast<std::size_t>(groups) * kPanelChannels : 0);
    for (std::size_t i = 0; i < multiplier.size(); ++i) multiplier[i] = static_cast<std::uint8_t>(pick(1, 255));
    const std::ptrdiff_t stride = columns + draw.in(0, 9);  // rows may begin anywhere
    Heap<std::uint8_t> codes(static_cast<std::size_t>((count - 1) * stride + columns));
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(pick(0, 255));
    const Panel panel = {weights.data(), columns, groups, groups > 1 ? multiplier.data() : nullptr};
    const Rows rows = {codes.data(), stride, count};
    const TileKernel& tile = bits == 8 ? variant.tile8 : variant.tile4;
    const Tile scalar = bits == 8 ? scalar::tile8 : scalar::tile4;
    const std::string what = variant.name + ", " + std::to_string(bits) + " bits, " + std::to_string(columns) +
                             " columns in " + std::to_string(groups) + " groups, " + std::to_string(count) + " rows";
    CHECK_FOR(what, run(tile.run, panel, rows) == expected(scalar, panel, rows, tile.offset));
}

void against_scalar() {
    constexpr int kColumns[] = {8, 16, 24, 40, 64, 136, 576}, kGroups[] = {2, 3, 8, 17};
    Draw draw(1);
    for (const Variant& variant : variants()) {
        CHECK_FOR(variant.name, variant.max_rows <= kMaxTileRows);
        for (const int bits : {4, 8}) {
            for (int count = 1; count <= variant.max_rows; ++count) {
                for (const int columns : kColumns) {
                    for (const bool extreme : {false, true}) compare(variant, bits, columns, 1, count, extreme, draw);
                }
                for (const int groups : kGroups)
                    for (const int width : {8, 16, 40})
                        compare(variant, bits, groups * width, groups, count, draw.once_in(2), draw);
            }
        }
    }
}

// The widest rows whose accumulators a package may have, all at their ends.
void widest() {
    Draw draw(2);
    for (const Variant& variant : variants())
        for (const int bits : {4, 8}) compare(variant, bits, 65'784, 1, variant.max_rows > 1 ? 2 : 1, true, draw);
}

// int4 or int8 codes as they lie in a file.
Heap<std::byte> stored(const std::vector<std::int8_t>& codes, std::int64_t rows, std::int64_t columns, DType dtype) {
    if (dtype == DType::int8) {
        Heap<std::byte> bytes(codes.size());
        std::memcpy(bytes.data(), codes.data(), codes.size());
        return bytes;
    }
    const std::int64_t stride = (columns + 1) / 2;
    Heap<std::byte> bytes(static_cast<std::size_t>(rows * stride));
    for (std::int64_t i = 0; i < rows * columns; ++i) {
        std::byte& byte = bytes[static_cast<std::size_t>(i / columns * stride + i % columns / 2)];
        byte |= static_cast<std::byte>((codes[static_cast<std::size_t>(i)] & 15) << (i % columns % 2 ? 4 : 0));
    }
    return bytes;
}

// Packed, unpacked and multiplied: the same as the codes of the file.
void matrix(DType dtype, std::int64_t rows, std::int64_t columns, std::int64_t groups, Draw& draw) {
    const std::int64_t low = dtype == DType::int8 ? -127 : -8, high = dtype == DType::int8 ? 127 : 7;
    std::vector<std::int8_t> codes(static_cast<std::size_t>(rows * columns));
    for (std::int8_t& code : codes) code = static_cast<std::int8_t>(draw.edgy(low, high));
    const Heap<std::byte> bytes = stored(codes, rows, columns, dtype);
    const Heap<std::uint8_t> factors(static_cast<std::size_t>(rows * groups), draw, 1, 255);
    const Constant weights{"w", dtype, {rows, columns}, bytes.data(), bytes.size()};
    const auto* factor_bytes = reinterpret_cast<const std::byte*>(factors.data());
    const Constant multiplier{"m", DType::uint8, {rows, groups}, factor_bytes, factors.size()};
    PackedMatrix packed(weights, groups > 1 ? &multiplier : nullptr);
    AlignedBytes memory(packed.panel_bytes() * static_cast<std::size_t>(packed.panels()));
    for (std::int64_t p = 0; p < packed.panels(); ++p)
        packed.place(p, memory.data() + packed.panel_bytes() * static_cast<std::size_t>(p));
    packed.pack(MappedFile());

    const std::int64_t padded = (columns + kColumnPad - 1) / kColumnPad * kColumnPad;
    const Heap<std::uint8_t> x(static_cast<std::size_t>(padded), draw, 0, 255);
    Heap<std::int8_t> row(static_cast<std::size_t>(columns));
    for (std::int64_t o = 0; o < rows; ++o) {
        const std::int8_t* given = codes.data() + o * columns;
        packed.unpack_row(o, row.data());
        CHECK(std::equal(given, given + columns, row.data()));
        const Sums sums = run(dtype == DType::int8 ? scalar::tile8 : scalar::tile4, packed.panel(o / kPanelChannels),
                              {x.data(), 0, 1});
        std::int64_t product = 0, total = 0;
        for (std::int64_t i = 0; i < columns; ++i) {
            const std::int64_t m =
                groups > 1 ? factors[static_cast<std::size_t>(o * groups + i / (columns / groups))] : 1;
            product += x[static_cast<std::size_t>(i)] * given[i] * m, total += given[i] * m;
        }
        CHECK(sums[static_cast<std::size_t>(o % kPanelChannels)] == product && packed.row_sum(o) == total);
    }
}

void matrices() {
    Draw draw(3);
    for (const DType dtype : {DType::int4, DType::int8}) {
        for (const std::int64_t rows : {1, 31, 32, 33, 70})
            for (const std::int64_t columns : {1, 2, 7, 8, 9, 63}) matrix(dtype, rows, columns, 1, draw);
        matrix(dtype, 33, 48, 2, draw);
        matrix(dtype, 5, 64, 8, draw);
    }
}

}  // namespace
}  // namespace mobilequant

int main() {
    mobilequant::against_scalar();
    mobilequant::widest();
    mobilequant::matrices();
    return mobilequant::test::result();
}
