// JSON of strangers: strict (RFC 8259), with 64-bit integers, no name twice in an object, bounded depth.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace mobilequant {

// One value. Numbers without fraction and exponent are integers and must fit 64 bits; all others are doubles.
class Json {
  public:
    using Array = std::vector<Json>;
    using Member = std::pair<std::string, Json>;
    using Object = std::vector<Member>;  // in the order of the file

    // Throws PackageError with `where` and the byte at which the text is no JSON.
    static Json parse(std::string_view text, std::string_view where);

    // Each throws PackageError where the value is of another kind; `what` names it in the message.
    std::int64_t integer(std::string_view what) const;
    double number(std::string_view what) const;  // an integer too
    const std::string& string(std::string_view what) const;
    const Array& array(std::string_view what) const;
    const Object& object(std::string_view what) const;

    bool is_null() const { return std::holds_alternative<std::monostate>(value_); }

    // The member of an object, or nullptr.
    const Json* find(std::string_view name) const;

    Json() = default;
    template <class Value>
    explicit Json(Value value) : value_(std::move(value)) {}

  private:
    std::variant<std::monostate, bool, std::int64_t, double, std::string, Array, Object> value_;
};

// The members of an object by name: each must be asked for exactly once, and `done` refuses what nobody asked for.
class Members {
  public:
    Members(const Json& object, std::string where);
    const Json& required(std::string_view name);
    const Json* optional(std::string_view name);
    void done() const;

  private:
    const Json::Object& members_;
    std::string where_;
    std::vector<bool> asked_;
};

}  // namespace mobilequant
