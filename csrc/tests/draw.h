// Random and extreme numbers for tests, the same in every run.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>

namespace mobilequant::test {

class Draw {
  public:
    explicit Draw(std::uint64_t seed) : state_(seed) {}

    std::uint64_t bits() {  // SplitMix64
        std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        return z ^ z >> 31;
    }

    // Uniform in [low, high].
    template <class Number>
    Number in(Number low, Number high) {
        const auto count = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low) + 1;
        return static_cast<Number>(static_cast<std::uint64_t>(low) + (count ? bits() % count : bits()));
    }

    bool once_in(int count) { return in(1, count) == 1; }

    // The same, every fourth time one of the ends.
    template <class Number>
    Number edgy(Number low, Number high) {
        if (!once_in(4)) return in(low, high);
        return once_in(2) ? low : high;
    }

  private:
    std::uint64_t state_;
};

// Exactly `count` values on the heap, so that a sanitizer sees who reads or writes beyond them.
template <class Value>
class Heap {
  public:
    explicit Heap(std::size_t count) : size_(count), data_(new Value[count]()) {}

    // Filled with edgy values of [low, high].
    Heap(std::size_t count, Draw& draw, std::int64_t low, std::int64_t high) : Heap(count) {
        for (std::size_t i = 0; i < count; ++i) data_[i] = static_cast<Value>(draw.edgy(low, high));
    }

    Value* data() { return data_.get(); }
    const Value* data() const { return data_.get(); }
    std::size_t size() const { return size_; }
    Value& operator[](std::size_t i) { return data_[i]; }
    const Value& operator[](std::size_t i) const { return data_[i]; }
    bool operator==(const Heap& other) const {
        return size_ == other.size_ && (size_ == 0 || std::memcmp(data(), other.data(), size_ * sizeof(Value)) == 0);
    }

  private:
    std::size_t size_;
    std::unique_ptr<Value[]> data_;
};

}  // namespace mobilequant::test
