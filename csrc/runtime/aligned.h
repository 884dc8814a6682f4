// Memory that begins at a cache line, and at a page where it is large; zero until it is written.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace mobilequant {

class AlignedBytes {
  public:
    AlignedBytes() = default;
    explicit AlignedBytes(std::size_t size) : size_(size) {
        const std::size_t whole = (size + kAlign - 1) / kAlign * kAlign;
        data_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlign, whole ? whole : kAlign)));
        if (!data_) throw std::bad_alloc();
        std::memset(data_.get(), 0, whole);
    }

    std::byte* data() { return data_.get(); }
    const std::byte* data() const { return data_.get(); }
    std::size_t size() const { return size_; }

    template <class Value>
    Value* as() {
        return reinterpret_cast<Value*>(data_.get());
    }
    template <class Value>
    const Value* as() const {
        return reinterpret_cast<const Value*>(data_.get());
    }

  private:
    static constexpr std::size_t kAlign = 64;
    struct Free {
        void operator()(std::byte* data) const { std::free(data); }
    };
    std::unique_ptr<std::byte, Free> data_;
    std::size_t size_ = 0;
};

}  // namespace mobilequant
