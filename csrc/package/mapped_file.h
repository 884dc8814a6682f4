// A file as read-only memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace mobilequant {

class MappedFile {
  public:
    MappedFile() = default;  // of no file: empty

    // Throws PackageError: no such file, no plain file, or it cannot be read.
    explicit MappedFile(const std::filesystem::path& path);
    ~MappedFile();
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;

    std::span<const std::byte> bytes() const { return {data_, size_}; }

    // Tell the system that these bytes are not needed any more: what was read stops counting as memory of this process.
    // Bytes that lie outside this file are left alone.
    void release(std::span<const std::byte> part) const;

  private:
    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace mobilequant
