#include "package/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <unordered_set>

#include "package/error.h"

namespace mobilequant {
namespace {

constexpr int kMaxDepth = 64;

class Parser {
  public:
    Parser(std::string_view text, std::string_view where) : text_(text), where_(where) {}

    Json document() {
        Json value = this->value(0);
        skip_space();
        if (at_ < text_.size()) fail("something follows the end");
        return value;
    }

  private:
    [[noreturn]] void fail(const std::string& problem) const {
        throw PackageError(std::string(where_) + " is no valid JSON: " + problem + " at byte " + std::to_string(at_));
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    void skip_space() {
        while (at_ < text_.size() &&
               (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
            ++at_;
    }

    void expect(char wanted) {
        if (at_ >= text_.size() || text_[at_] != wanted) fail(std::string("expected '") + wanted + "'");
        ++at_;
    }

    Json value(int depth) {
        if (depth > kMaxDepth) fail("too many levels");
        skip_space();
        switch (peek()) {
            case '{':
                return object(depth);
            case '[':
                return array(depth);
            case '"':
                return Json(string());
            case 't':
                return literal("true", Json(true));
            case 'f':
                return literal("false", Json(false));
            case 'n':
                return literal("null", Json());
            default:
                return number();
        }
    }

    Json literal(std::string_view word, Json value) {
        if (text_.substr(at_, word.size()) != word) fail("unknown word");
        at_ += word.size();
        return value;
    }

    Json object(int depth) {
        Json::Object members;
        std::unordered_set<std::string> names;
        ++at_;
        skip_space();
        if (peek() == '}') return ++at_, Json(std::move(members));
        while (true) {
            skip_space();
            std::string name = string();
            if (!names.insert(name).second) fail("a name stands twice in one object");
            skip_space();
            expect(':');
            members.emplace_back(std::move(name), value(depth + 1));
            skip_space();
            if (peek() != ',') break;
            ++at_;
        }
        expect('}');
        return Json(std::move(members));
    }

    Json array(int depth) {
        Json::Array items;
        ++at_;
        skip_space();
        if (peek() == ']') return ++at_, Json(std::move(items));
        while (true) {
            items.push_back(value(depth + 1));
            skip_space();
            if (peek() != ',') break;
            ++at_;
        }
        expect(']');
        return Json(std::move(items));
    }

    std::size_t digits() {
        const std::size_t start = at_;
        while (peek() >= '0' && peek() <= '9') ++at_;
        if (at_ == start) fail("expected a value");
        return at_ - start;
    }

    Json number() {
        const std::size_t start = at_;
        if (peek() == '-') ++at_;
        const bool leading_zero = peek() == '0';
        if (digits() > 1 && leading_zero) fail("a number begins with 0");
        bool whole = true;
        if (peek() == '.') ++at_, digits(), whole = false;
        if (peek() == 'e' || peek() == 'E') {
            ++at_, whole = false;
            if (peek() == '+' || peek() == '-') ++at_;
            digits();
        }
        return whole ? converted<std::int64_t>(start) : converted<double>(start);
    }

    template <class Number>
    Json converted(std::size_t start) {
        Number number{};
        const auto [end, error] = std::from_chars(text_.data() + start, text_.data() + at_, number);
        if (error != std::errc() || end != text_.data() + at_) fail("a number that does not fit 64 bits");
        return Json(number);
    }

    std::string string() {
        expect('"');
        std::string out;
        while (true) {
            if (at_ >= text_.size()) fail("a string does not end");
            const unsigned char c = static_cast<unsigned char>(text_[at_++]);
            if (c == '"') return out;
            if (c < 0x20) fail("a control character in a string");
            if (c == '\\')
                escape(out);
            else if (c < 0x80)
                out.push_back(static_cast<char>(c));
            else
                utf8(out, c);
        }
    }

    // The rest of a character of two to four bytes; shortest forms only, no halves of pairs, none beyond U+10FFFF.
    void utf8(std::string& out, unsigned char first) {
        const int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
        std::uint32_t point = first & (0x3Fu >> more);
        for (int i = 0; i < more; ++i, ++at_) {
            const auto next = static_cast<unsigned char>(peek());
            if ((next & 0xC0) != 0x80) fail("bytes that are no UTF-8");
            point = point << 6 | (next & 0x3Fu);
        }
        constexpr std::uint32_t kSmallest[] = {0, 0x80, 0x800, 0x10000};
        const bool half = point >= 0xD800 && point <= 0xDFFF;
        if (first < 0xC0 || first > 0xF7 || half || point < kSmallest[more] || point > 0x10FFFF)
            fail("bytes that are no UTF-8");
        append_utf8(out, point);
    }

    void escape(std::string& out) {
        static constexpr std::string_view kShort = "\"\\/bfnrt", kMeaning = "\"\\/\b\f\n\r\t";
        const char c = peek();
        ++at_;
        if (const std::size_t found = kShort.find(c); c != '\0' && found != std::string_view::npos) {
            out.push_back(kMeaning[found]);
            return;
        }
        if (c != 'u') fail("an unknown escape");
        std::uint32_t point = hex4();
        if (point >= 0xD800 && point < 0xDC00 && text_.substr(at_, 2) == "\\u") {
            at_ += 2;
            const std::uint32_t low = hex4();
            if (low < 0xDC00 || low > 0xDFFF) fail("half a surrogate pair");
            point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
        } else if (point >= 0xD800 && point <= 0xDFFF) {
            fail("half a surrogate pair");
        }
        append_utf8(out, point);
    }

    std::uint32_t hex4() {
        std::uint32_t value = 0;
        if (at_ + 4 > text_.size()) fail("a string does not end");
        const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + at_ + 4, value, 16);
        if (error != std::errc() || end != text_.data() + at_ + 4) fail("expected four hexadecimal digits");
        at_ += 4;
        return value;
    }

    static void append_utf8(std::string& out, std::uint32_t point) {
        const auto put = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
        if (point < 0x80) return put(point);
        if (point < 0x800) return put(0xC0 | point >> 6), put(0x80 | (point & 63));
        if (point < 0x10000) {
            return put(0xE0 | point >> 12), put(0x80 | (point >> 6 & 63)), put(0x80 | (point & 63));
        }
        put(0xF0 | point >> 18), put(0x80 | (point >> 12 & 63)), put(0x80 | (point >> 6 & 63)),
            put(0x80 | (point & 63));
    }

    std::string_view text_, where_;
    std::size_t at_ = 0;
};

template <class Kind, class Value>
const Kind& held(const Value& value, std::string_view what, const char* kind) {
    const Kind* found = std::get_if<Kind>(&value);
    if (!found) throw PackageError(std::string(what) + " must be " + kind);
    return *found;
}

}  // namespace

Json Json::parse(std::string_view text, std::string_view where) { return Parser(text, where).document(); }

std::int64_t Json::integer(std::string_view what) const { return held<std::int64_t>(value_, what, "an integer"); }

double Json::number(std::string_view what) const {
    if (const auto* whole = std::get_if<std::int64_t>(&value_)) return static_cast<double>(*whole);
    return held<double>(value_, what, "a number");
}

const std::string& Json::string(std::string_view what) const { return held<std::string>(value_, what, "a string"); }
const Json::Array& Json::array(std::string_view what) const { return held<Array>(value_, what, "a list"); }
const Json::Object& Json::object(std::string_view what) const { return held<Object>(value_, what, "an object"); }

const Json* Json::find(std::string_view name) const {
    const auto* members = std::get_if<Object>(&value_);
    if (!members) return nullptr;
    const auto found = std::find_if(members->begin(), members->end(), [&](const Member& m) { return m.first == name; });
    return found == members->end() ? nullptr : &found->second;
}

Members::Members(const Json& object, std::string where)
    : members_(object.object(where)), where_(std::move(where)), asked_(members_.size()) {}

const Json* Members::optional(std::string_view name) {
    for (std::size_t i = 0; i < members_.size(); ++i) {
        if (members_[i].first != name) continue;
        asked_[i] = true;
        return &members_[i].second;
    }
    return nullptr;
}

const Json& Members::required(std::string_view name) {
    const Json* found = optional(name);
    if (!found) throw PackageError(where_ + " lacks " + std::string(name));
    return *found;
}

void Members::done() const {
    for (std::size_t i = 0; i < members_.size(); ++i)
        if (!asked_[i]) throw PackageError(where_ + " has the unknown key " + members_[i].first);
}

}  // namespace mobilequant
