// The command line of mobilequant-run.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace mobilequant::tools {

extern const char kHelp[];

struct RunOptions {
    std::string folder;
    std::vector<std::int32_t> tokens;  // from --tokens
    bool from_input = false;           // --tokens -: ids come on standard input
    bool leading = true;               // the package's leading token is put in front
    std::int64_t max_new_tokens = 64;
    std::vector<std::int32_t> stop;
    double temperature = 0, top_p = 1, repetition_penalty = 1;
    std::int64_t top_k = 0;
    std::uint64_t seed = 0;
    std::int32_t threads = 1;
    std::string kernels;
    std::int64_t bench_prefill = 0, bench_decode = 0;  // both 0: no measurement
    bool help = false, version = false;
};

// The command line says something that cannot be meant.
class OptionError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// Throws OptionError.
RunOptions parse_options(const std::vector<std::string>& words);

// Ids with commas or spaces between them. Throws OptionError.
std::vector<std::int32_t> parse_tokens(const std::string& text);

}  // namespace mobilequant::tools
