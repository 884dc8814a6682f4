#include "runtime/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "runtime/round_up.h"

namespace mobilequant {
namespace {

constexpr std::int64_t kGroupBytes = kPanelChannels * kColumnGroup;
constexpr int kZeroPoint = 128;  // taken from a code by turning its highest bit
constexpr std::uint32_t kZeroPoints = 0x80808080;

struct Sizes {
    std::int64_t padded_dim, capacity, value_panels;

    Sizes(const Cache& cache, std::int64_t positions)
        : padded_dim(round_up(cache.head_dim, kColumnPad)),
          capacity(round_up(positions, kPanelChannels)),
          value_panels((cache.head_dim + kPanelChannels - 1) / kPanelChannels) {}

    std::int64_t key_bytes() const { return capacity * padded_dim; }  // of one head
    std::int64_t value_bytes() const { return value_panels * kPanelChannels * capacity; }
    std::int64_t bias_bytes() const { return capacity * static_cast<std::int64_t>(sizeof(std::int32_t)); }
};

}  // namespace

std::size_t KVCache::bytes(const Cache& cache, std::int64_t capacity) {
    const Sizes sizes(cache, capacity);
    return static_cast<std::size_t>(cache.num_kv_heads *
                                    (sizes.key_bytes() + sizes.value_bytes() + sizes.bias_bytes()));
}

KVCache::KVCache(const Cache& cache, std::int64_t num_prefix, std::int64_t capacity, std::int32_t key_weight,
                 std::byte* memory)
    : head_dim_(cache.head_dim), key_weight_(key_weight) {
    const Sizes sizes(cache, capacity);
    padded_dim_ = sizes.padded_dim, capacity_ = sizes.capacity, value_panels_ = sizes.value_panels;
    key_panels_ = capacity_ / kPanelChannels;
    keys_ = memory;
    values_ = keys_ + cache.num_kv_heads * sizes.key_bytes();
    key_bias_ = reinterpret_cast<std::int32_t*>(values_ + cache.num_kv_heads * sizes.value_bytes());
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
    std::byte* lane = keys_ + panel * kPanelChannels * padded_dim_ + position % kPanelChannels * kColumnGroup;
    for (std::int64_t d = 0; d < head_dim_; d += kColumnGroup, lane += kGroupBytes) {
        std::uint32_t four = kZeroPoints;  // 0 where the head ends
        std::memcpy(&four, codes + d, static_cast<std::size_t>(std::min<std::int64_t>(kColumnGroup, head_dim_ - d)));
        four ^= kZeroPoints;
        std::memcpy(lane, &four, kColumnGroup);
    }
    std::int32_t sum = 0;
    for (std::int64_t d = 0; d < head_dim_; ++d) sum += codes[d] - kZeroPoint;
    key_bias_[head * capacity_ + position] = key_weight_ * sum;
}

void KVCache::write_value(std::int64_t head, std::int64_t position, const std::uint8_t* codes) {
    std::byte* group = values_ + head * value_panels_ * kPanelChannels * capacity_ +
                       position / kColumnGroup * kGroupBytes + position % kColumnGroup;
    for (std::int64_t first = 0; first < head_dim_; first += kPanelChannels, group += kPanelChannels * capacity_) {
        const auto dims = std::min<std::int64_t>(kPanelChannels, head_dim_ - first);
        for (std::int64_t d = 0; d < dims; ++d)
            group[d * kColumnGroup] = static_cast<std::byte>(codes[first + d] ^ kZeroPoint);
    }
}

Panel KVCache::key_panel(std::int64_t head, std::int64_t number) const {
    const std::int64_t panel = head * key_panels_ + number;
    return {keys_ + panel * kPanelChannels * padded_dim_, static_cast<std::int32_t>(padded_dim_), 1, nullptr};
}

Panel KVCache::value_panel(std::int64_t head, std::int64_t number, std::int64_t first, std::int64_t count) const {
    const std::int64_t panel = head * value_panels_ + number;
    const std::byte* start = values_ + panel * kPanelChannels * capacity_ + first / kColumnGroup * kGroupBytes;
    return {start, static_cast<std::int32_t>(count), 1, nullptr};
}

const std::int32_t* KVCache::key_bias(std::int64_t head, std::int64_t number) const {
    return key_bias_ + head * capacity_ + number * kPanelChannels;
}

}  // namespace mobilequant
