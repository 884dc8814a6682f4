#include "runtime/kv_cache.h"

namespace mobilequant {
namespace {

constexpr std::int64_t kGroupBytes = kPanelChannels * kColumnGroup;
constexpr int kZeroPoint = 128;

std::int64_t round_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

KVCache::KVCache(const Cache& cache, std::int64_t num_prefix, std::int64_t capacity, std::int32_t key_weight)
    : head_dim_(cache.head_dim),
      padded_dim_(round_up(cache.head_dim, kColumnPad)),
      capacity_(round_up(capacity, kPanelChannels)),
      key_panels_(capacity_ / kPanelChannels),
      value_panels_((cache.head_dim + kPanelChannels - 1) / kPanelChannels),
      key_weight_(key_weight),
      keys_(static_cast<std::size_t>(cache.num_kv_heads * key_panels_ * kPanelChannels * padded_dim_)),
      values_(static_cast<std::size_t>(cache.num_kv_heads * value_panels_ * kPanelChannels * capacity_)),
      key_bias_(static_cast<std::size_t>(cache.num_kv_heads * capacity_) * sizeof(std::int32_t)) {
    for (std::int64_t position = 0; position < num_prefix; ++position) {
        for (std::int64_t head = 0; head < cache.num_kv_heads; ++head) {
            const std::int64_t entry = (position * cache.num_kv_heads + head) * head_dim_;
            write_key(head, position, cache.keys->as<std::uint8_t>() + entry);
            write_value(head, position, cache.values->as<std::uint8_t>() + entry);
        }
    }
}

void KVCache::write_key(std::int64_t head, std::int64_t position, const std::uint8_t* codes) {
    const std::int64_t panel = head * key_panels_ + position / kPanelChannels;
    auto* lane =
        keys_.as<std::int8_t>() + panel * kPanelChannels * padded_dim_ + position % kPanelChannels * kColumnGroup;
    std::int32_t sum = 0;
    for (std::int64_t d = 0; d < head_dim_; ++d) {
        const int code = codes[d] - kZeroPoint;
        lane[d / kColumnGroup * kGroupBytes + d % kColumnGroup] = static_cast<std::int8_t>(code);
        sum += code;
    }
    key_bias_.as<std::int32_t>()[head * capacity_ + position] = key_weight_ * sum;
}

void KVCache::write_value(std::int64_t head, std::int64_t position, const std::uint8_t* codes) {
    for (std::int64_t d = 0; d < head_dim_; ++d) {
        const std::int64_t panel = head * value_panels_ + d / kPanelChannels;
        auto* group =
            values_.as<std::int8_t>() + panel * kPanelChannels * capacity_ + position / kColumnGroup * kGroupBytes;
        group[d % kPanelChannels * kColumnGroup + position % kColumnGroup] =
            static_cast<std::int8_t>(codes[d] - kZeroPoint);
    }
}

Panel KVCache::key_panel(std::int64_t head, std::int64_t number) const {
    const std::int64_t panel = head * key_panels_ + number;
    return {keys_.data() + panel * kPanelChannels * padded_dim_, static_cast<std::int32_t>(padded_dim_), 1, nullptr};
}

Panel KVCache::value_panel(std::int64_t head, std::int64_t number, std::int64_t first, std::int64_t count) const {
    const std::int64_t panel = head * value_panels_ + number;
    const std::byte* start = values_.data() + panel * kPanelChannels * capacity_ + first / kColumnGroup * kGroupBytes;
    return {start, static_cast<std::int32_t>(count), 1, nullptr};
}

const std::int32_t* KVCache::key_bias(std::int64_t head, std::int64_t number) const {
    return key_bias_.as<std::int32_t>() + head * capacity_ + number * kPanelChannels;
}

}  // namespace mobilequant
