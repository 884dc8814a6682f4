// Memory that begins at a cache line; zero until it is written. What is large and never written costs nothing: a package may
// declare a context of millions, or the caller one that is never reached.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>

namespace mobilequant {

class AlignedBytes {
  public:
    AlignedBytes() = default;
    explicit AlignedBytes(std::size_t size) : size_(size) {
        if (size > std::numeric_limits<std::size_t>::max() / 2) throw std::bad_alloc();
        std::size_t space = size + kAlign;
        void* place = std::calloc(space, 1);
        if (!place) throw std::bad_alloc();
        whole_.reset(place);
        data_ = static_cast<std::byte*>(std::align(kAlign, size, place, space));
    }

    std::byte* data() { return data_; }
    const std::byte* data() const { return data_; }
    std::size_t size() const { return size_; }

    template <class Value>
    Value* as() {
        return reinterpret_cast<Value*>(data_);
    }
    template <class Value>
    const Value* as() const {
        return reinterpret_cast<const Value*>(data_);
    }

  private:
    static constexpr std::size_t kAlign = 64;
    struct Free {
        void operator()(void* whole) const { std::free(whole); }
    };
    std::unique_ptr<void, Free> whole_;
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace mobilequant
