// Scores, softmax and context of one layer in one pass: what lies between them never leaves a member's cache.
#pragma once

#include <memory>
#include <optional>

#include "runtime/steps/rowwise.h"

namespace mobilequant {

// The operations of one attention; `table` is what may stand between scores and softmax.
struct AttentionOps {
    AttentionScores scores;
    std::optional<Table> table;
    Softmax softmax;
    AttentionContext context;
};

std::unique_ptr<Step> make_attention(const AttentionOps& ops, const Site& site);

// What a key's codes are worth for each step by which queries are read too high: the cache adds it to scores.
std::int32_t key_weight(const Kernels& kernels);

}  // namespace mobilequant
