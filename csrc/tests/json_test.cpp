// What the JSON reader takes, and what it refuses.
#include "package/json.h"

#include <limits>
#include <string>

#include "package/error.h"
#include "tests/check.h"

namespace mobilequant {
namespace {

using namespace std::string_literals;

Json parse(const std::string& text) { return Json::parse(text, "text"); }
bool refused(const std::string& text) {
    return test::throws<PackageError>([&] { parse(text); });
}

void accepted() {
    CHECK(parse(" { } ").object("o").empty() && parse("[]").array("a").empty());
    CHECK(parse("null").is_null() && !parse("true").is_null());
    CHECK(parse("-0").integer("n") == 0);
    CHECK(parse("9223372036854775807").integer("n") == std::numeric_limits<std::int64_t>::max());
    CHECK(parse("-9223372036854775808").integer("n") == std::numeric_limits<std::int64_t>::min());
    CHECK(parse("1.5e1").number("n") == 15 && parse("0.25").number("n") == 0.25 && parse("3").number("n") == 3);
    CHECK(parse(R"("a\"\\\/\b\f\n\r\t")").string("s") == "a\"\\/\b\f\n\r\t");
    CHECK(parse(R"("\u0041\u00e9\u20ac\ud83d\ude00")").string("s") == "A\u00e9\u20ac\U0001F600");
    CHECK(parse(R"("\u0000")").string("s") == "\0"s);
    const Json nested = parse(R"({"a": [1, {"b": "c"}], "": 2})");
    CHECK(nested.find("a")->array("a")[1].find("b")->string("b") == "c" && nested.find("")->integer("") == 2);
    CHECK(nested.find("c") == nullptr && parse("1").find("a") == nullptr);
    CHECK(!refused(std::string(60, '[') + std::string(60, ']')));
}

void refused_all() {
    const std::string texts[] = {"",
                                 " ",
                                 "{",
                                 "}",
                                 "[",
                                 "]",
                                 "[1,]",
                                 "[,1]",
                                 "[1 2]",
                                 "{\"a\"}",
                                 "{\"a\":}",
                                 "{\"a\":1,}",
                                 "{a:1}",
                                 "{1:1}",
                                 "{\"a\":1 \"b\":2}",
                                 "tru",
                                 "nul",
                                 "True",
                                 "NaN",
                                 "Infinity",
                                 "-",
                                 "+1",
                                 "01",
                                 "-01",
                                 "1.",
                                 ".5",
                                 "1e",
                                 "1e+",
                                 "0x1",
                                 "1 1",
                                 "[1] x",
                                 "9223372036854775808",
                                 "-9223372036854775809",
                                 "1e999",
                                 "\"",
                                 "\"\\\"",
                                 "\"\\x\"",
                                 "\"\\u12\"",
                                 "\"\\u12g4\"",
                                 "\"\\u-123\"",
                                 "\"\\ud800\"",
                                 "\"\\ud800x\"",
                                 "\"\\ud800\\u0041\"",
                                 "\"\\udc00\"",
                                 "\"a\nb\"",
                                 "\"a\tb\"",
                                 "'a'",
                                 "\"\\",
                                 "\"\\u",
                                 "{\"a\":1,\"a\":2}",
                                 "{\"a\":{\"b\":1,\"\\u0062\":2}}",
                                 "// comment\n1",
                                 "\xEF\xBB\xBF 1",
                                 "1\0"s,
                                 "\0"s,
                                 "[\0]"s};
    for (const std::string& text : texts) CHECK_FOR(text, refused(text));
    CHECK(refused(std::string(100, '[') + std::string(100, ']')));
    CHECK(refused(std::string(5'000'000, '[')));  // depth is bounded: no recursion that eats the stack
    // no text of bytes that are no UTF-8: over-long, cut, beyond the last, halves of pairs
    for (const char* bytes : {"\"\x80\"", "\"\xC0\x80\"", "\"\xC3\"", "\"\xE2\x82\"", "\"\xED\xA0\x80\"",
                              "\"\xF4\x90\x80\x80\"", "\"\xFF\""})
        CHECK_FOR(std::string(bytes), refused(bytes));
    CHECK(!refused("\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\""));
}

// Every beginning of a document is refused, or is one.
void cut() {
    const std::string text = R"({"a": [1, -2.5e3, "x\u00e9\\", null, true, false], "b": {"c": {}}})";
    for (std::size_t length = 0; length < text.size(); ++length)
        CHECK_FOR(text.substr(0, length), refused(text.substr(0, length)));
    CHECK(!refused(text));
}

void kinds() {
    const auto other = [](const auto& work) { return test::throws<PackageError>(work); };
    const Json one = parse("1"), half = parse("0.5"), text = parse("\"1\"");
    CHECK(other([&] { half.integer("n"); }) && other([&] { text.integer("n"); }) && other([&] { text.number("n"); }));
    CHECK(other([&] { one.string("s"); }) && other([&] { one.array("a"); }) && other([&] { one.object("o"); }));
}

void members() {
    const Json object = parse(R"({"a": 1, "b": 2})");
    Members asked(object, "it");
    CHECK(asked.required("a").integer("a") == 1 && asked.optional("c") == nullptr);
    CHECK(test::throws<PackageError>([&] { asked.required("c"); }));
    CHECK(test::throws<PackageError>([&] { asked.done(); }));  // nobody asked for b
    asked.optional("b");
    asked.done();
}

}  // namespace
}  // namespace mobilequant

int main() {
    mobilequant::accepted();
    mobilequant::refused_all();
    mobilequant::cut();
    mobilequant::kinds();
    mobilequant::members();
    return mobilequant::test::result();
}
