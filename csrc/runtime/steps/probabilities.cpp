#include "runtime/steps/probabilities.h"

#include <algorithm>
#include <cstring>

namespace mobilequant {
namespace {

constexpr std::int64_t kLargestDistance = (1 << 16) - 1;

// Table entries less 1, behind one entry; empty where one of them does not fit 16 bits.
std::vector<std::uint16_t> narrow_entries(const std::int32_t* table) {
    std::vector<std::uint16_t> entries{0};
    for (int i = 0; i < 256; ++i) {
        if (table[i] < 1 || table[i] > 1 << 16) return {};
        entries.push_back(static_cast<std::uint16_t>(table[i] - 1));
    }
    return entries;
}

void split(const std::int16_t* from, std::int64_t count, std::uint8_t* high, std::uint8_t* low) {
    for (std::int64_t i = 0; i < count; ++i) {
        high[i] = static_cast<std::uint8_t>(from[i] >> 8);
        low[i] = static_cast<std::uint8_t>(from[i] & 255);
    }
}

}  // namespace

Probabilities::Probabilities(const AttentionOps& ops, const Site& site)
    : visibility_{site.graph.num_prefix, ops.scores.window},
      score_type_(site.type(ops.scores.output)),
      softmax_type_(site.type(ops.softmax.input)),
      type_(site.type(ops.softmax.output)),
      look_(site.kernels.rows->table[score_type_][softmax_type_]),
      table_(ops.table ? ops.table->table->data : nullptr),
      softmax_(site.kernels.rows->softmax[softmax_type_][type_]),
      entries_(narrow_entries(ops.softmax.table->as<std::int32_t>())),
      kernel_{ops.softmax.table->as<std::int32_t>(), factor(ops.softmax.rescale, kLargestDistance),
              static_cast<std::int32_t>(ops.softmax.one), site.format(ops.softmax.output).qmax,
              entries_.empty() ? nullptr : entries_.data() + 1} {}

void Probabilities::run(const std::byte* scores, std::int64_t position, const std::array<Range, 2>& written,
                        std::uint8_t* codes, std::ptrdiff_t stride, std::byte* scratch) const {
    const auto ranges = visibility_.of(position);
    const std::int64_t count = ranges[0].size() + ranges[1].size(), score_bytes = score_type_ + 1,
                       bytes = softmax_type_ + 1;
    auto* powers = reinterpret_cast<std::int32_t*>(scratch);
    std::byte *seen = scratch + 4 * count, *found = seen + 2 * count;
    for (int plane = 0; plane < planes(); ++plane)
        for (const Range& range : written)
            std::memset(codes + plane * stride + range.first, 0, static_cast<std::size_t>(range.size()));
    if (ranges[0].size() == 0 && !table_ && type_ == 0)
        return softmax_(scores + ranges[1].first * score_bytes, codes + ranges[1].first, powers, count, kernel_);

    std::byte* next = seen;
    for (const Range& range : ranges) {
        const std::byte* from = scores + range.first * score_bytes;
        if (table_)
            look_(from, next, range.size(), table_);
        else
            std::memcpy(next, from, static_cast<std::size_t>(range.size() * bytes));
        next += range.size() * bytes;
    }
    softmax_(seen, found, powers, count, kernel_);
    for (const Range& range : ranges) {
        std::uint8_t* to = codes + range.first;
        if (type_ == 0)
            std::memcpy(to, found, static_cast<std::size_t>(range.size()));
        else
            split(reinterpret_cast<const std::int16_t*>(found), range.size(), to, to + stride);
        found += range.size() * (type_ + 1);
    }
}

void Probabilities::trace(const std::byte* scores, const std::uint8_t* codes, std::ptrdiff_t stride,
                          std::int64_t positions, std::byte* looked_up, std::byte* found) const {
    if (looked_up) look_(scores, looked_up, positions, table_);
    for (std::int64_t s = 0; s < positions; ++s) {
        if (type_ == 0)
            found[s] = static_cast<std::byte>(codes[s]);
        else
            reinterpret_cast<std::int16_t*>(found)[s] = static_cast<std::int16_t>(256 * codes[s] + codes[stride + s]);
    }
}

}  // namespace mobilequant
