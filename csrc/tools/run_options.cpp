#include "tools/run_options.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <limits>
#include <map>
#include <thread>

namespace mobilequant::tools {
namespace {

constexpr std::int64_t kMaxThreads = 256, kMaxTokens = std::int64_t{1} << 22;

[[noreturn]] void refuse(const std::string& text) { throw OptionError(text); }

template <class Number>
Number number(const std::string& option, const std::string& text, Number low, Number high) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !(low <= value && value <= high))
        refuse(option + ": " + text + " is no number that it can be");
    return value;
}

std::int64_t count(const std::string& option, const std::string& text, std::int64_t low,
                   std::int64_t high = kMaxTokens) {
    return number<std::int64_t>(option, text, low, high);
}

std::int32_t all_cores() {
    return static_cast<std::int32_t>(std::clamp<std::int64_t>(std::thread::hardware_concurrency(), 1, kMaxThreads));
}

void parse_bench(RunOptions& options, const std::string& text) {
    const std::size_t comma = text.find(',');
    if (comma == std::string::npos) refuse("--bench needs two numbers of tokens, such as 512,128");
    options.bench_prefill = count("--bench", text.substr(0, comma), 1);
    options.bench_decode = count("--bench", text.substr(comma + 1), 1);
}

using Setter = std::function<void(RunOptions&, const std::string&)>;

// Options that have a value.
const std::map<std::string, Setter>& setters() {
    static const std::map<std::string, Setter> kAll = {
        {"--tokens",
         [](RunOptions& options, const std::string& text) {
             if (text == "-")
                 options.from_input = true;
             else
                 options.tokens = parse_tokens(text);
         }},
        {"--max-new-tokens",
         [](RunOptions& options, const std::string& text) {
             options.max_new_tokens = count("--max-new-tokens", text, 1);
         }},
        {"--stop", [](RunOptions& options, const std::string& text) { options.stop = parse_tokens(text); }},
        {"--temperature",
         [](RunOptions& options, const std::string& text) {
             options.temperature = number("--temperature", text, 0.0, 100.0);
         }},
        {"--top-k", [](RunOptions& options, const std::string& text) { options.top_k = count("--top-k", text, 0); }},
        {"--top-p",
         [](RunOptions& options, const std::string& text) { options.top_p = number("--top-p", text, 1e-9, 1.0); }},
        {"--repetition-penalty",
         [](RunOptions& options, const std::string& text) {
             options.repetition_penalty = number("--repetition-penalty", text, 0.01, 100.0);
         }},
        {"--seed",
         [](RunOptions& options, const std::string& text) {
             options.seed = number<std::uint64_t>("--seed", text, 0, std::numeric_limits<std::uint64_t>::max());
         }},
        {"--threads",
         [](RunOptions& options, const std::string& text) {
             options.threads = static_cast<std::int32_t>(count("--threads", text, 1, kMaxThreads));
         }},
        {"--kernels", [](RunOptions& options, const std::string& text) { options.kernels = text; }},
        {"--bench", parse_bench},
    };
    return kAll;
}

const std::map<std::string, Setter>& switches() {
    static const std::map<std::string, Setter> kAll = {
        {"--greedy", [](RunOptions& options, const std::string&) { options.temperature = 0; }},
        {"--no-leading-token", [](RunOptions& options, const std::string&) { options.leading = false; }},
        {"--help", [](RunOptions& options, const std::string&) { options.help = true; }},
        {"--version", [](RunOptions& options, const std::string&) { options.version = true; }},
    };
    return kAll;
}

void check(const RunOptions& options) {
    if (options.help || options.version) return;
    if (options.folder.empty()) refuse("the folder of a package is missing");
    const bool measure = options.bench_prefill > 0, given = options.from_input || !options.tokens.empty();
    if (measure && given) refuse("--bench makes its own tokens");
    if (!measure && !given) refuse("there is nothing to continue: give ids with --tokens, or --tokens - to read them");
}

}  // namespace

const char kHelp[] =
    R"(Usage: mobilequant-run DIR --tokens 1,2,3 [options]

Continue token ids with the integer model in DIR; every new id is a line on standard output.

  --tokens IDS            ids with commas between them; - reads them from standard input
  --no-leading-token      do not put the package's leading token (BOS) in front
  --max-new-tokens N      stop after so many (64), or when the context is full
  --stop IDS              stop at one of these, which is not printed
  --greedy                always the likeliest token (as it is without --temperature)
  --temperature T         draw among the tokens; higher is more surprising
  --top-k K               … among the K likeliest
  --top-p P               … among the likeliest that hold this share of probability
  --repetition-penalty R  make tokens that stand already less likely, above 1
  --seed S                other numbers, another text (0)
  --threads N             threads (as many as the machine has cores)
  --kernels NAME          instead of the fastest that this machine can run
  --bench P,D             no text: the speed of reading P tokens and of writing D more
  --version, --help

The same package, ids and seed give the same tokens on every machine, for any kernels and threads.
Exit codes: 0 done, 1 a defect, 2 wrong usage, 5 not enough memory or a place that cannot be written, 7 no package or a
damaged one.
)";

std::vector<std::int32_t> parse_tokens(const std::string& text) {
    constexpr char kBetween[] = ", \t\r\n";
    std::vector<std::int32_t> tokens;
    for (std::size_t at = text.find_first_not_of(kBetween); at != std::string::npos;
         at = text.find_first_not_of(kBetween, at)) {
        const std::size_t end = std::min(text.find_first_of(kBetween, at), text.size());
        tokens.push_back(
            number<std::int32_t>("token ids", text.substr(at, end - at), 0, std::numeric_limits<std::int32_t>::max()));
        at = end;
    }
    if (tokens.empty()) refuse("there are no token ids to continue");
    return tokens;
}

RunOptions parse_options(const std::vector<std::string>& words) {
    RunOptions options;
    options.threads = all_cores();
    for (std::size_t i = 0; i < words.size(); ++i) {
        const std::string& word = words[i];
        if (const auto found = switches().find(word); found != switches().end()) {
            found->second(options, "");
        } else if (const auto setter = setters().find(word); setter != setters().end()) {
            if (i + 1 == words.size()) refuse(word + " needs a value");
            setter->second(options, words[++i]);
        } else if (word.size() > 1 && word.front() == '-') {
            refuse("there is no option " + word);
        } else if (options.folder.empty()) {
            options.folder = word;
        } else {
            refuse(word + ": there is one folder already, " + options.folder);
        }
    }
    check(options);
    return options;
}

}  // namespace mobilequant::tools
