#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "package/error.h"

namespace mobilequant {
namespace {

constexpr int kPowerBits = 30, kOctaveBits = 8, kMantissaBits = 31;
constexpr std::uint64_t kWhole = std::uint64_t{1} << 32;  // a share of 1
constexpr double kLog2E = 1.4426950408889634;
constexpr double kLargestFactor =
    1 << kPowerBits;  // octaves per step of a logit: beyond, only equals of the first remain

const Sampling& checked(const Sampling& sampling) {
    const auto demand = [](bool holds, const char* broken) {
        if (!holds) throw UsageError(broken);
    };
    demand(sampling.temperature >= 0 && sampling.temperature <= 100, "the temperature must be 0 to 100");
    demand(sampling.top_k >= 0, "top_k must be 0 or more");
    demand(sampling.top_p > 0 && sampling.top_p <= 1, "top_p must be more than 0 and at most 1");
    demand(sampling.repetition_penalty >= 0.01 && sampling.repetition_penalty <= 100,
           "the repetition penalty must be 0.01 to 100");
    return sampling;
}

}  // namespace

std::int64_t Sampler::Factor::operator()(std::int64_t value) const {
    return (value * mantissa + (std::int64_t{1} << (shift - 1))) >> shift;
}

Sampler::Factor Sampler::factor(double value) {
    int exponent = 0;
    const double mantissa = std::frexp(std::min(value, kLargestFactor), &exponent);  // in [1/2, 1)
    const int shift = std::clamp(kMantissaBits - exponent, 1, 62);
    return {static_cast<std::int64_t>(std::nearbyint(std::ldexp(mantissa, shift + exponent))), shift};
}

Sampler::Sampler(const Sampling& sampling, double scale)
    : sampling_(checked(sampling)),
      state_(sampling.seed),
      top_p_(static_cast<std::uint64_t>(sampling.top_p * static_cast<double>(kWhole))) {
    multiply_ = factor(sampling.repetition_penalty);
    divide_ = factor(1 / sampling.repetition_penalty);
    octaves_ = factor(sampling.temperature > 0 ? scale * kLog2E / sampling.temperature * (1 << kOctaveBits) : 1);
    for (std::size_t j = 0; j < power_.size(); ++j)
        power_[j] = static_cast<std::uint64_t>(
            std::nearbyint(std::exp2(kPowerBits - static_cast<double>(j) / (1 << kOctaveBits))));
}

std::int32_t Sampler::choose(std::span<const std::int16_t> logits, std::span<const std::int32_t> before) {
    if (logits.empty()) throw UsageError("there are no logits to choose from");
    logits_.assign(logits.begin(), logits.end());
    if (sampling_.repetition_penalty != 1) penalize(before);
    if (sampling_.temperature == 0) return likeliest();
    weigh();
    keep_likeliest();
    std::uint64_t total = 0;
    for (const Candidate& each : candidates_) total += each.weight;
    auto left = static_cast<std::uint64_t>(static_cast<unsigned __int128>(random()) * total >> 64);
    for (const Candidate& each : candidates_) {
        if (left < each.weight) return each.token;
        left -= each.weight;
    }
    return candidates_.back().token;
}

void Sampler::penalize(std::span<const std::int32_t> before) {
    std::vector<std::int32_t> tokens(before.begin(), before.end());
    std::sort(tokens.begin(), tokens.end());
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    for (const std::int32_t token : tokens) {
        if (token < 0 || static_cast<std::size_t>(token) >= logits_.size())
            throw UsageError("token " + std::to_string(token) + " is outside the vocabulary");
        std::int32_t& logit = logits_[static_cast<std::size_t>(token)];
        logit = static_cast<std::int32_t>(logit > 0 ? divide_(logit) : multiply_(logit));
    }
}

std::int32_t Sampler::likeliest() const {
    return static_cast<std::int32_t>(std::max_element(logits_.begin(), logits_.end()) - logits_.begin());
}

// All tokens that are not 30 octaves less likely than the first.
void Sampler::weigh() {
    const std::int64_t largest = *std::max_element(logits_.begin(), logits_.end());
    candidates_.clear();
    for (std::size_t token = 0; token < logits_.size(); ++token) {
        const std::int64_t distance = octaves_(largest - logits_[token]), octaves = distance >> kOctaveBits;
        if (octaves > kPowerBits) continue;
        const std::uint64_t weight = power_[static_cast<std::size_t>(distance & ((1 << kOctaveBits) - 1))] >> octaves;
        candidates_.push_back({logits_[token], static_cast<std::int32_t>(token), weight});
    }
}

// The first top_k, and of these as many as hold the share top_p.
void Sampler::keep_likeliest() {
    if (sampling_.top_k == 0 && sampling_.top_p == 1) return;
    std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
        return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
    });
    const auto count = static_cast<std::int64_t>(candidates_.size());
    candidates_.resize(static_cast<std::size_t>(sampling_.top_k > 0 ? std::min(sampling_.top_k, count) : count));
    unsigned __int128 total = 0, held = 0;
    for (const Candidate& each : candidates_) total += each.weight;
    std::size_t kept = 0;
    while (kept < candidates_.size() && held * kWhole < total * top_p_) held += candidates_[kept++].weight;
    candidates_.resize(std::max<std::size_t>(kept, 1));
}

// SplitMix64 (Steele, Lea, Flood 2014).
std::uint64_t Sampler::random() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

}  // namespace mobilequant
