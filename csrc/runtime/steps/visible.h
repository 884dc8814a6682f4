// Which positions a token sees (docs/integer-semantics.md, attention): the constant prefix, and all or the last
// `window` others.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace mobilequant {

struct Range {
    std::int64_t first = 0, last = 0;  // [first, last)
    std::int64_t size() const { return last - first; }
};

struct Visibility {
    std::int64_t num_prefix, window;  // 0: no window

    // Two ranges in order, without overlap; the first is empty where the second begins with position 0.
    std::array<Range, 2> of(std::int64_t position) const {
        const std::int64_t start = window > 0 ? std::max(num_prefix, position - window + 1) : 0;
        if (start <= num_prefix) return {Range{}, {0, position + 1}};
        return {Range{0, num_prefix}, {start, position + 1}};
    }

    // What the tokens at [first, last] see together: of(last) with what `first` sees in front of it.
    std::array<Range, 2> of_all(std::int64_t first, std::int64_t last) const {
        auto [prefix, others] = of(last);
        const auto earlier = of(first)[1];
        if (earlier.first == 0) return {Range{}, {0, last + 1}};
        return {prefix, {std::min(earlier.first, others.first), last + 1}};
    }
};

}  // namespace mobilequant
