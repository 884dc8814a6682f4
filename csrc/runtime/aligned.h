// Memory that begins at a cache line and is zero until it is written. Large blocks are mapped, in huge pages where the
// system has them: a walk through weights misses fewer translations, and pages that are never touched cost nothing.
#pragma once

#include <cstddef>
#include <memory>

namespace mobilequant {

class AlignedBytes {
  public:
    AlignedBytes() = default;
    // Throws std::bad_alloc.
    explicit AlignedBytes(std::size_t size);

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
    struct Free {
        std::size_t mapped;  // bytes, or 0 for memory of the heap
        void operator()(std::byte* data) const;
    };
    std::unique_ptr<std::byte, Free> data_{nullptr, Free{0}};
    std::size_t size_ = 0;
};

}  // namespace mobilequant
