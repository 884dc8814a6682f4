// What the engine throws: a message that says what is wrong and where, and what to do about it.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace mobilequant {

// A package that cannot be trusted, or that this engine does not understand.
class PackageError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// A caller asked for something impossible: a token outside the vocabulary, a full context, no threads.
class UsageError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

inline void require(bool condition, const char* message) {
    if (!condition) throw PackageError(message);
}

inline void require(bool condition, const std::string& message) {
    if (!condition) throw PackageError(message);
}

}  // namespace mobilequant
