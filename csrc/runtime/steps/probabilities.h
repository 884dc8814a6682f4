// From the scores of a token to its probabilities: what it sees, the table that may stand between, softmax.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/steps/attention.h"
#include "runtime/steps/visible.h"

namespace mobilequant {

class Probabilities {
  public:
    Probabilities(const AttentionOps& ops, const Site& site);

    // Rows of unsigned codes for one row of probabilities: 2 where they have 16 bits, p = 256 · first + second.
    int planes() const { return type_ + 1; }

    // Bytes that `run` needs for rows of `positions`.
    std::size_t scratch_bytes(std::int64_t positions) const { return static_cast<std::size_t>(positions) * 8 + 64; }

    // `scores` by position; `codes` by position, `stride` from plane to plane. What `written` covers and the token does
    // not see becomes 0.
    void run(const std::byte* scores, std::int64_t position, const std::array<Range, 2>& written, std::uint8_t* codes,
             std::ptrdiff_t stride, std::byte* scratch) const;

    // The output of the softmax, or of the table in front of it, as it would lie in memory, for a trace.
    void trace(const std::byte* scores, const std::uint8_t* codes, std::ptrdiff_t stride, std::int64_t positions,
               std::byte* looked_up, std::byte* found) const;

  private:
    using Look = void (*)(const void*, void*, std::int64_t, const void*);

    Visibility visibility_;
    int score_type_, softmax_type_, type_;
    Look look_;
    const void* table_;  // nullptr: no table
    void (*softmax_)(const void*, void*, std::int32_t*, std::int64_t, const SoftmaxKernel&);
    std::vector<std::uint16_t> entries_;  // behind one that is never used: vectors look up pairs
    SoftmaxKernel kernel_;
};

}  // namespace mobilequant
