// SHA-256 of known messages, by the instructions of the processor and without them.
#include "package/sha256.h"

#include <string>

#include "tests/check.h"
#include "tests/draw.h"

namespace mobilequant {
namespace {

std::string hash(const std::string& text, ShaCode code) {
    return hexadecimal(sha256(std::as_bytes(std::span(text)), code));
}

// FIPS 180-4 examples.
void known(ShaCode code) {
    CHECK(hash("", code) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(hash("abc", code) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", code) ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(hash(std::string(1'000'000, 'a'), code) ==
          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Every length around the ends of blocks, where the padding moves to a block of its own.
void both_codes() {
    test::Draw draw(1);
    for (std::size_t length = 0; length < 300; ++length) {
        std::string text(length, '\0');
        for (char& byte : text) byte = static_cast<char>(draw.bits());
        CHECK_FOR(std::to_string(length), hash(text, ShaCode::fastest) == hash(text, ShaCode::portable));
    }
}

}  // namespace
}  // namespace mobilequant

int main() {
    for (const auto code : {mobilequant::ShaCode::fastest, mobilequant::ShaCode::portable}) mobilequant::known(code);
    mobilequant::both_codes();
    return mobilequant::test::result();
}
