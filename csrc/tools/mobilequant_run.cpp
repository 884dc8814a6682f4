// mobilequant-run: token ids in, token ids out, on top of the C library alone.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "include/mobilequant.h"
#include "tools/run_options.h"

namespace mobilequant::tools {
namespace {

// A call of the library that failed.
struct Failure {
    mq_status status;
};

void demand(mq_status status) {
    if (status != MQ_OK) throw Failure{status};
}

template <class Handle, void (*give_back)(Handle*)>
struct GiveBack {
    void operator()(Handle* handle) const { give_back(handle); }
};
using Model = std::unique_ptr<mq_model, GiveBack<mq_model, mq_close>>;
using Session = std::unique_ptr<mq_session, GiveBack<mq_session, mq_session_free>>;
using Sampler = std::unique_ptr<mq_sampler, GiveBack<mq_sampler, mq_sampler_free>>;

Model open_model(const RunOptions& options) {
    mq_model* made = nullptr;
    demand(mq_open(options.folder.c_str(), options.threads, options.kernels.empty() ? nullptr : options.kernels.c_str(),
                   &made));
    if (options.kernels.empty() && std::string(mq_kernels(made)) == "scalar")
        std::cerr << "Note: no vector kernels fit this machine; the scalar ones that run are many times slower.\n";
    return Model(made);
}

Session new_session(const Model& model, std::int64_t capacity) {
    mq_session* made = nullptr;
    demand(mq_session_new(model.get(), capacity, &made));
    return Session(made);
}

Sampler new_sampler(const Model& model, const RunOptions& options) {
    mq_sampler* made = nullptr;
    demand(mq_sampler_new(model.get(), options.temperature, options.top_k, options.top_p, options.repetition_penalty,
                          options.seed, &made));
    return Sampler(made);
}

std::vector<std::int32_t> prompt_of(const RunOptions& options, const Model& model) {
    std::vector<std::int32_t> tokens = options.tokens;
    if (options.from_input) {
        const std::string text((std::istreambuf_iterator<char>(std::cin)), std::istreambuf_iterator<char>());
        tokens = parse_tokens(text);
    }
    const std::int32_t leading = mq_leading_token(model.get());
    if (options.leading && leading >= 0) tokens.insert(tokens.begin(), leading);
    return tokens;
}

void write_line(const std::string& line) {
    if (std::fputs((line + "\n").c_str(), stdout) < 0 || std::fflush(stdout) != 0) {
        std::cerr << "mobilequant-run: standard output cannot be written\n";
        throw Failure{MQ_ERROR_RESOURCE};
    }
}

void generate(const RunOptions& options, const Model& model) {
    std::vector<std::int32_t> tokens = prompt_of(options, model);
    const Sampler sampler = new_sampler(model, options);
    // the last new token is printed, but not read again
    const Session session = new_session(model, static_cast<std::int64_t>(tokens.size()) + options.max_new_tokens - 1);
    const std::int64_t vocab = mq_vocab_size(model.get());
    std::vector<std::int16_t> logits(static_cast<std::size_t>(vocab));
    std::size_t read = 0;
    for (std::int64_t made = 0; made < options.max_new_tokens; ++made) {
        const auto count = static_cast<std::int64_t>(tokens.size() - read);
        if (made > 0 && mq_session_room(session.get()) < count) break;  // the context is full
        demand(mq_run(session.get(), tokens.data() + read, count, logits.data(), vocab));
        read = tokens.size();
        std::int32_t token = 0;
        demand(
            mq_sample(sampler.get(), logits.data(), tokens.data(), static_cast<std::int64_t>(tokens.size()), &token));
        if (std::find(options.stop.begin(), options.stop.end(), token) != options.stop.end()) break;
        write_line(std::to_string(token));
        tokens.push_back(token);
    }
}

class Watch {
  public:
    double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

  private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

// Reading many tokens at once, then writing one after another, three times; the ids do not matter for the speed.
void bench(const RunOptions& options, const Model& model) {
    constexpr int kRepeats = 3;
    const std::int64_t vocab = mq_vocab_size(model.get());
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(options.bench_prefill));
    for (std::size_t i = 0; i < tokens.size(); ++i)
        tokens[i] = static_cast<std::int32_t>(static_cast<std::int64_t>(i) * 7919 % vocab);
    std::vector<std::int16_t> logits(static_cast<std::size_t>(vocab));
    std::vector<double> prefill, decode;
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
        const Session session = new_session(model, options.bench_prefill + options.bench_decode);
        const Watch reading;
        demand(mq_run(session.get(), tokens.data(), options.bench_prefill, logits.data(), vocab));
        prefill.push_back(static_cast<double>(options.bench_prefill) / reading.seconds());
        const Watch writing;
        for (std::int64_t i = 0; i < options.bench_decode; ++i) {
            const auto token =
                static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
            demand(mq_run(session.get(), &token, 1, logits.data(), vocab));
        }
        decode.push_back(static_cast<double>(options.bench_decode) / writing.seconds());
    }
    char line[200];
    std::snprintf(line, sizeof line, "kernels %s threads %d prefill_tok_s %.1f decode_tok_s %.1f",
                  mq_kernels(model.get()), options.threads, median(prefill), median(decode));
    write_line(line);
}

int run(const std::vector<std::string>& words) {
    try {
        const RunOptions options = parse_options(words);
        if (options.help || options.version) {
            write_line(options.help ? kHelp : std::string("mobilequant-run ") + mq_version());
            return MQ_OK;
        }
        const Model model = open_model(options);
        options.bench_prefill > 0 ? bench(options, model) : generate(options, model);
        return MQ_OK;
    } catch (const OptionError& error) {
        std::cerr << "mobilequant-run: " << error.what() << "\n`mobilequant-run --help` shows what there is.\n";
        return MQ_ERROR_USAGE;
    } catch (const Failure& failure) {
        if (*mq_last_error()) std::cerr << "mobilequant-run: " << mq_last_error() << "\n";
        return failure.status;
    } catch (const std::bad_alloc&) {
        std::cerr << "mobilequant-run: there is not enough memory\n";
        return MQ_ERROR_RESOURCE;
    }
}

}  // namespace
}  // namespace mobilequant::tools

int main(int count, char** words) {
    std::ios::sync_with_stdio(false);
    return mobilequant::tools::run({words + std::min(count, 1), words + count});
}
