// Keys and values of one layer, laid out as panels of weights: attention is two products with matrices that grow.
//
//   keys    of each head   panels of 32 positions, columns are the dimensions of the head
//   values  of each head   panels of 32 dimensions, columns are the positions
//
// Codes are stored less their zero point, as signed bytes. What was not written yet is 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "graph/graph.h"
#include "kernels/tile.h"

namespace mobilequant {

class KVCache {
  public:
    // Bytes for `capacity` positions.
    static std::size_t bytes(const Cache& cache, std::int64_t capacity);

    // In `memory`, zero and at a cache line, which must outlive the cache. The first positions hold the constant prefix.
    // `key_weight` stands before Σ of a key's codes in its bias.
    KVCache(const Cache& cache, std::int64_t num_prefix, std::int64_t capacity, std::int32_t key_weight,
            std::byte* memory);

    // Codes (D) of one head at a position.
    void write_key(std::int64_t head, std::int64_t position, const std::uint8_t* codes);
    void write_value(std::int64_t head, std::int64_t position, const std::uint8_t* codes);

    Panel key_panel(std::int64_t head, std::int64_t number) const;
    // Positions [first, first + count), both multiples of 8.
    Panel value_panel(std::int64_t head, std::int64_t number, std::int64_t first, std::int64_t count) const;
    // What is to be added to the sums of each position of a panel of keys.
    const std::int32_t* key_bias(std::int64_t head, std::int64_t number) const;

    std::int64_t value_panels() const { return value_panels_; }

  private:
    std::int64_t head_dim_, padded_dim_, capacity_, key_panels_, value_panels_;
    std::int32_t key_weight_;
    std::byte *keys_, *values_;
    std::int32_t* key_bias_;
};

}  // namespace mobilequant
