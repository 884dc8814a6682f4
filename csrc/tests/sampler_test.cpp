// What a choice of tokens promises: equal seeds, no token that was ruled out, probabilities near the true ones.
#include "runtime/sampler.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "package/error.h"
#include "tests/check.h"
#include "tests/draw.h"

namespace mobilequant {
namespace {

using test::Draw;
using Logits = std::vector<std::int16_t>;

Logits any_logits(Draw& draw, std::size_t count) {
    Logits logits(count);
    for (std::int16_t& logit : logits) logit = static_cast<std::int16_t>(draw.edgy(-32767, 32767));
    return logits;
}

Sampling drawn(double temperature = 1) {
    Sampling sampling;
    sampling.temperature = temperature;
    return sampling;
}

void greedy() {
    Draw draw(1);
    Sampler sampler({}, 0.01);
    CHECK(sampler.choose(Logits{3, 9, 9, -4}, {}) == 1);  // the smaller id of equals
    for (int i = 0; i < 200; ++i) {
        const Logits logits = any_logits(draw, 300);
        CHECK(sampler.choose(logits, {}) == std::max_element(logits.begin(), logits.end()) - logits.begin());
    }
    CHECK(sampler.choose(Logits{-32767}, {}) == 0);
}

void same_seed() {
    Draw draw(2);
    Sampling sampling = drawn();
    sampling.seed = 7;
    Sampler one(sampling, 0.001), same(sampling, 0.001);
    sampling.seed = 8;
    Sampler other(sampling, 0.001);
    int different = 0;
    for (int i = 0; i < 100; ++i) {
        const Logits logits = any_logits(draw, 500);
        const std::int32_t token = one.choose(logits, {});
        CHECK(token == same.choose(logits, {}));
        different += token != other.choose(logits, {});
    }
    CHECK(different > 50);
}

void frequencies() {
    const double scale = 0.01;
    const Logits logits = {0, 100, 200, -50, 150};
    double total = 0;
    for (const std::int16_t logit : logits) total += std::exp(logit * scale);
    Sampler sampler(drawn(), scale);
    constexpr int kDraws = 20'000;
    std::vector<int> counts(logits.size());
    for (int i = 0; i < kDraws; ++i) ++counts[static_cast<std::size_t>(sampler.choose(logits, {}))];
    for (std::size_t i = 0; i < logits.size(); ++i)
        CHECK(std::abs(counts[i] / double{kDraws} - std::exp(logits[i] * scale) / total) < 0.015);
}

void candidates() {
    const Logits logits = {10, 50, 40, 30, 20};
    Sampling sampling = drawn();
    sampling.top_k = 2;
    Sampler two(sampling, 0.01);
    sampling = drawn();
    sampling.top_p = 0.41;  // the first two hold 0.22 + 0.20
    Sampler share(sampling, 0.01);
    sampling.top_p = 1e-9;
    Sampler smallest(sampling, 0.01);
    std::set<std::int32_t> of_two, of_share;
    for (int i = 0; i < 300; ++i) {
        of_two.insert(two.choose(logits, {}));
        of_share.insert(share.choose(logits, {}));
        CHECK(smallest.choose(logits, {}) == 1);
    }
    CHECK((of_two == std::set<std::int32_t>{1, 2}) && (of_share == std::set<std::int32_t>{1, 2}));
}

void penalty() {
    Sampling sampling;
    sampling.repetition_penalty = 2;
    Sampler sampler(sampling, 0.01);
    CHECK(sampler.choose(Logits{100, 90, 40}, std::vector<std::int32_t>{0, 0, 0}) == 1);  // 50, once for all that stand
    CHECK(sampler.choose(Logits{-100, -150, -190}, std::vector<std::int32_t>{0}) == 1);   // −200
    CHECK(sampler.choose(Logits{100, 90, 40}, std::vector<std::int32_t>{0, 1}) == 0);
    for (const std::int32_t outside : {-1, 3, std::numeric_limits<std::int32_t>::min()})
        CHECK(test::throws<UsageError>([&] { sampler.choose(Logits{1, 2, 3}, std::vector<std::int32_t>{outside}); }));
}

// A scale comes from the package of a stranger: any positive number.
void any_scale() {
    Draw draw(3);
    for (const double scale : {1e-300, 5e-324, 1e-9, 1.0, 1e9, 1e300, 1.7e308}) {
        for (const double temperature : {5e-324, 1e-300, 0.7, 100.0}) {
            Sampling sampling = drawn(temperature);
            sampling.repetition_penalty = draw.once_in(2) ? 0.01 : 100;
            Sampler sampler(sampling, scale);
            const Logits logits = any_logits(draw, 50);
            const std::int32_t token = sampler.choose(logits, std::vector<std::int32_t>{1, 2});
            CHECK(0 <= token && token < 50);
        }
    }
    Sampler cold(drawn(1e-300), 1e300);
    CHECK(cold.choose(Logits{5, 7, 6}, {}) == 1);  // of no other is any probability left
}

void refused() {
    constexpr double kNone = std::numeric_limits<double>::quiet_NaN(),
                     kInfinite = std::numeric_limits<double>::infinity();
    const auto refuses = [](auto change) {
        Sampling sampling = drawn();
        change(sampling);
        return test::throws<UsageError>([&] { Sampler(sampling, 0.01); });
    };
    for (const double bad : {-1.0, 101.0, kNone, kInfinite, -kInfinite}) {
        CHECK(refuses([&](Sampling& sampling) { sampling.temperature = bad; }));
        CHECK(refuses([&](Sampling& sampling) { sampling.top_p = bad; }));
        CHECK(refuses([&](Sampling& sampling) { sampling.repetition_penalty = bad; }));
    }
    CHECK(refuses([&](Sampling& sampling) { sampling.top_k = -1; }));
    CHECK(refuses([&](Sampling& sampling) { sampling.top_p = 0; }));
    Sampler sampler({}, 0.01);
    CHECK(test::throws<UsageError>([&] { sampler.choose({}, {}); }));
}

}  // namespace
}  // namespace mobilequant

int main() {
    mobilequant::greedy();
    mobilequant::same_seed();
    mobilequant::frequencies();
    mobilequant::candidates();
    mobilequant::penalty();
    mobilequant::any_scale();
    mobilequant::refused();
    return mobilequant::test::result();
}
