#include "package/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "package/error.h"
#include "package/json.h"

namespace mobilequant {
namespace {

constexpr std::size_t kLengthBytes = 8, kMaxHeaderBytes = 64 << 20, kMaxDimensions = 8;

std::int64_t element_bytes(const std::string& dtype, const std::string& where) {
    static const std::map<std::string, std::int64_t, std::less<>> kBytes = {
        {"I8", 1}, {"U8", 1}, {"I16", 2}, {"I32", 4}};
    const auto found = kBytes.find(dtype);
    require(found != kBytes.end(), where + " has the dtype " + dtype + ", which no package has");
    return found->second;
}

std::int64_t bytes_of(const std::vector<std::int64_t>& shape, std::int64_t each, const std::string& where) {
    std::int64_t total = each;
    for (const std::int64_t size : shape) {
        require(size >= 0 && (size == 0 || total <= std::numeric_limits<std::int64_t>::max() / size),
                where + " has an impossible shape");
        total *= size;
    }
    return total;
}

StoredArray read_array(const Json& entry, const std::string& where, std::span<const std::byte> data) {
    Members members(entry, where);
    StoredArray array{members.required("dtype").string(where), {}, {}};
    for (const Json& size : members.required("shape").array(where)) array.shape.push_back(size.integer(where));
    require(array.shape.size() <= kMaxDimensions, where + " has too many dimensions");
    const Json::Array& offsets = members.required("data_offsets").array(where);
    members.done();
    require(offsets.size() == 2, where + " needs two offsets");
    const std::int64_t begin = offsets[0].integer(where), end = offsets[1].integer(where);
    require(0 <= begin && begin <= end && end <= static_cast<std::int64_t>(data.size()), where + " leaves the file");
    const std::int64_t each = element_bytes(array.dtype, where);
    require(bytes_of(array.shape, each, where) == end - begin, where + " has another size than its shape");
    array.bytes = data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    require(reinterpret_cast<std::uintptr_t>(array.bytes.data()) % static_cast<std::uintptr_t>(each) == 0,
            where + " does not begin at a multiple of its element's size");
    return array;
}

}  // namespace

std::map<std::string, StoredArray, std::less<>> read_safetensors(std::span<const std::byte> file,
                                                                 const std::string& where) {
    require(file.size() >= kLengthBytes, where + " is too short to be a safetensors file");
    std::uint64_t length;
    std::memcpy(&length, file.data(), kLengthBytes);
    require(length <= kMaxHeaderBytes && length <= file.size() - kLengthBytes, where + ": the header leaves the file");
    const auto header_bytes = file.subspan(kLengthBytes, length);
    const std::string_view text(reinterpret_cast<const char*>(header_bytes.data()), header_bytes.size());
    const Json header = Json::parse(text, where);
    const auto data = file.subspan(kLengthBytes + length);

    std::map<std::string, StoredArray, std::less<>> arrays;
    for (const auto& [name, entry] : header.object(where))
        if (name != "__metadata__") arrays.emplace(name, read_array(entry, where + ": " + name, data));

    std::vector<std::pair<const std::byte*, std::size_t>> parts;
    for (const auto& [name, array] : arrays) parts.emplace_back(array.bytes.data(), array.bytes.size());
    std::sort(parts.begin(), parts.end());
    const std::byte* next = data.data();
    for (const auto& [begin, size] : parts) {
        require(begin == next, where + ": arrays overlap or leave gaps");
        next += size;
    }
    require(next == data.data() + data.size(), where + ": something follows the arrays");
    return arrays;
}

}  // namespace mobilequant
