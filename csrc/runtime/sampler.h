// Choosing the next token from integer logits, in integers: the same seed gives the same text on every machine.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace mobilequant {

struct Sampling {
    double temperature = 0;  // 0: the likeliest token
    std::int64_t top_k = 0;  // 0: all
    double top_p = 1;        // least share of probability that the candidates hold
    double repetition_penalty =
        1;  // logits of tokens that stand already: divided where positive, multiplied where negative
    std::uint64_t seed = 0;
};

class Sampler {
  public:
    // `scale` is that of the logits. Throws UsageError: a number that makes no sense.
    Sampler(const Sampling& sampling, double scale);

    // The next token behind `before`; ties go to the smaller id. Throws UsageError: no logits, or a token outside them.
    std::int32_t choose(std::span<const std::int16_t> logits, std::span<const std::int32_t> before);

  private:
    struct Candidate {
        std::int32_t logit, token;
        std::uint64_t weight;
    };
    struct Factor {  // v · mantissa, rounded, >> shift
        std::int64_t mantissa;
        int shift;
        std::int64_t operator()(std::int64_t value) const;
    };
    static Factor factor(double value);

    void penalize(std::span<const std::int32_t> before);
    std::int32_t likeliest() const;
    void weigh();
    void keep_likeliest();
    std::uint64_t random();

    Sampling sampling_;
    Factor octaves_, multiply_, divide_;
    std::array<std::uint64_t, 256> power_;  // 2^30 · 2^(−j/256)
    std::uint64_t state_, top_p_;
    std::vector<std::int32_t> logits_;
    std::vector<Candidate> candidates_;
};

}  // namespace mobilequant
