// Checks of the test programs: each says where it failed, and the program ends with 1 where one did.
#pragma once

#include <cstdio>
#include <string>

namespace mobilequant::test {

inline int failures = 0;

inline void check(bool holds, const char* file, int line, const std::string& what) {
    if (holds) return;
    if (++failures <= 20) std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}

// Whether `work` throws `Error`.
template <class Error, class Work>
bool throws(const Work& work) {
    try {
        work();
    } catch (const Error&) {
        return true;
    }
    return false;
}

inline int result() {
    if (failures) std::fprintf(stderr, "%d checks failed\n", failures);
    return failures ? 1 : 0;
}

}  // namespace mobilequant::test

#define CHECK(condition) mobilequant::test::check((condition), __FILE__, __LINE__, #condition)
// `context` says of what: a name, numbers
#define CHECK_FOR(context, condition) \
    mobilequant::test::check((condition), __FILE__, __LINE__, (context) + (": " #condition))
