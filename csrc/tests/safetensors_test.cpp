// Headers of safetensors files: what is read, and what is refused.
#include "package/safetensors.h"

#include <cstring>
#include <string>

#include "package/error.h"
#include "runtime/aligned.h"
#include "tests/check.h"

namespace mobilequant {
namespace {

// A header, filled up with spaces to a multiple of 8 bytes, and so many bytes of data.
struct File {
    File(std::string header, std::size_t data_bytes, std::int64_t more_length = 0, bool pad = true) {
        while (pad && header.size() % 8) header += ' ';
        const auto length = static_cast<std::uint64_t>(static_cast<std::int64_t>(header.size()) + more_length);
        size = 8 + header.size() + data_bytes;
        bytes = AlignedBytes(size);
        std::memcpy(bytes.data(), &length, 8);
        std::memcpy(bytes.data() + 8, header.data(), header.size());
    }
    auto read() const { return read_safetensors({bytes.data(), size}, "weights"); }

    AlignedBytes bytes;
    std::size_t size = 0;
};

bool refused(const File& file) {
    return test::throws<PackageError>([&] { file.read(); });
}

std::string array(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
    return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

void accepted() {
    const File file("{" + array("b", "I32", "[2,1]", "[0,8]") + "," + array("a", "U8", "[3]", "[8,11]") +
                        R"(,"__metadata__":{"x":"y"}})",
                    11);
    const auto arrays = file.read();
    CHECK(arrays.size() == 2);
    const StoredArray& a = arrays.at("a");
    CHECK(a.dtype == "U8" && a.shape == std::vector<std::int64_t>{3} &&
          a.bytes.data() == file.bytes.data() + file.size - 3);
    CHECK(File("{}", 0).read().empty());
    CHECK(
        File("{" + array("a", "U8", "[0,5]", "[0,0]") + "," + array("b", "I8", "[]", "[0,1]") + "}", 1).read().size() ==
        2);
}

void refused_headers() {
    const std::string fine = "{" + array("a", "I16", "[2]", "[0,4]") + "}";
    CHECK(!refused(File(fine, 4)));
    CHECK(refused(File(fine, 3)) && refused(File(fine, 5)));         // cut, and something behind
    CHECK(refused(File(fine, 4, 4)) && refused(File(fine, 4, -8)));  // the header reaches into the data, or is cut
    CHECK(refused(File(fine, 4, 1'000'000)) && refused(File(fine, 4, std::int64_t{1} << 62)));
    CHECK(refused(File("[]", 0)) && refused(File("", 0)) && refused(File("{\"a\":1}", 0)));
    for (const std::string& entry :
         {array("a", "I64", "[1]", "[0,8]"), array("a", "F32", "[2]", "[0,8]"), array("a", "U8", "[8]", "[0,8,8]"),
          array("a", "U8", "[8]", "[8,0]"), array("a", "U8", "[9]", "[-1,8]"), array("a", "U8", "[-8]", "[0,8]"),
          array("a", "U8", "[7]", "[0,8]"), array("a", "U8", "[8]", "[1,9]"), array("a", "U8", "[8.0]", "[0,8]"),
          array("a", "U8", "[4294967296,4294967296,8]", "[0,8]"), array("a", "U8", "[1,1,1,1,1,1,1,1,8]", "[0,8]"),
          array("a", "U8", "8", "[0,8]"), std::string(R"("a":{"dtype":"U8","shape":[8]})"),
          std::string(R"("a":{"dtype":"U8","shape":[8],"data_offsets":[0,8],"more":1})")})
        CHECK_FOR(entry, refused(File("{" + entry + "}", 8)));
    const std::string first = array("a", "U8", "[4]", "[0,4]");
    CHECK(refused(File("{" + first + "," + array("b", "U8", "[5]", "[3,8]") + "}", 8)));  // they overlap
    CHECK(refused(File("{" + first + "," + array("b", "U8", "[3]", "[5,8]") + "}", 8)));  // a gap
    CHECK(refused(File("{" + first + "," + first + "}", 4)));                             // one name twice
}

// A number must lie where a processor reads it at once: behind an odd header, or behind an odd array, it does not.
void alignment() {
    CHECK(!refused(File("{" + array("a", "U8", "[1]", "[0,1]") + "," + array("b", "I8", "[8]", "[1,9]") + "}", 9)));
    CHECK(refused(File("{" + array("a", "U8", "[1]", "[0,1]") + "," + array("b", "I16", "[4]", "[1,9]") + "}", 9)));
    CHECK(refused(File("{" + array("a", "U8", "[2]", "[0,2]") + "," + array("b", "I32", "[2]", "[2,10]") + "}", 10)));
    std::string odd = "{" + array("a", "I16", "[2]", "[0,4]") + "}";
    if (odd.size() % 2 == 0) odd += ' ';
    CHECK(refused(File(odd, 4, 0, false)));
}

void short_files() {
    const AlignedBytes bytes(16);
    for (std::size_t size = 0; size < 10; ++size)
        CHECK(test::throws<PackageError>([&] { read_safetensors({bytes.data(), size}, "weights"); }));
}

}  // namespace
}  // namespace mobilequant

int main() {
    mobilequant::accepted();
    mobilequant::refused_headers();
    mobilequant::alignment();
    mobilequant::short_files();
    return mobilequant::test::result();
}
