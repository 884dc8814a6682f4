#include "runtime/aligned.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace mobilequant {
namespace {

constexpr std::size_t kLine = 64, kHugePage = std::size_t{2} << 20;

std::size_t round_up(std::size_t size, std::size_t unit) {
    if (size > SIZE_MAX - unit) throw std::bad_alloc();
    return (size + unit - 1) / unit * unit;
}

// A mapping that begins at a huge page: one page too many is mapped, and both ends are given back.
std::byte* map_aligned(std::size_t size) {
    void* mapped =
        mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    auto* first = static_cast<std::byte*>(mapped);
    const std::size_t before = (kHugePage - reinterpret_cast<std::uintptr_t>(first) % kHugePage) % kHugePage;
    if (before) munmap(first, before);
    if (before < kHugePage) munmap(first + before + size, kHugePage - before);
    madvise(first + before, size, MADV_HUGEPAGE);
    return first + before;
}

}  // namespace

AlignedBytes::AlignedBytes(std::size_t size) : size_(size) {
    if (size >= kHugePage) {
        const std::size_t whole = round_up(size, kHugePage);
        data_ = {map_aligned(whole), Free{whole}};
        return;
    }
    const std::size_t whole = round_up(size ? size : 1, kLine);
    data_ = {static_cast<std::byte*>(std::aligned_alloc(kLine, whole)), Free{0}};
    if (!data_) throw std::bad_alloc();
    std::memset(data_.get(), 0, whole);
}

void AlignedBytes::Free::operator()(std::byte* data) const {
    mapped ? static_cast<void>(munmap(data, mapped)) : std::free(data);
}

}  // namespace mobilequant
