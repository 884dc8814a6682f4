#include "package/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "package/error.h"

namespace mobilequant {

MappedFile::MappedFile(const std::filesystem::path& path) {
    const auto refuse = [&](const char* problem) { throw PackageError(path.string() + ": " + problem); };
    // Not waiting: a pipe of that name would keep us until somebody writes to it.
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) refuse(std::strerror(errno));
    struct stat about{};
    const bool plain = fstat(file, &about) == 0 && S_ISREG(about.st_mode);
    size_ = plain ? static_cast<std::size_t>(about.st_size) : 0;
    void* mapped = size_ ? mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0) : nullptr;
    const int error = errno;
    close(file);
    if (!plain) refuse("is no plain file");
    if (mapped == MAP_FAILED) refuse(std::strerror(error));
    data_ = static_cast<const std::byte*>(mapped);
}

MappedFile::~MappedFile() {
    if (data_) munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

void MappedFile::release(std::span<const std::byte> part) const {
    if (part.data() < data_ || part.data() + part.size() > data_ + size_)
        return;  // of a package that was read from memory
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto first = (reinterpret_cast<std::uintptr_t>(part.data()) + page - 1) / page * page;  // whole pages only
    const auto last = reinterpret_cast<std::uintptr_t>(part.data() + part.size()) / page * page;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

}  // namespace mobilequant
