// The clever parts of kernels/elementwise.inl against the same in numbers of 128 bits, or by their definition.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/operation.h"
#include "runtime/factor_table.h"
#include "tests/check.h"
#include "tests/draw.h"

namespace mobilequant {
namespace {

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include "kernels/scalar/no_vectors.inl"
// after what it calls
#include "kernels/elementwise.inl"
#include "kernels/softmax.inl"
#include "kernels/softmax_row.inl"
#pragma GCC diagnostic pop

using test::Draw, test::Heap;
using Wide = __int128;

bool is_root(std::int64_t root, std::int64_t value) {
    return root >= 0 && Wide{root} * root <= value && Wide{root + 1} * (root + 1) > value;
}

// Around every square is where a root of doubles goes wrong.
void square_roots() {
    constexpr std::int64_t kLow = std::int64_t{1} << 30, kHigh = (std::int64_t{1} << 31) - 1;
    Draw draw(1);
    for (int i = 0; i < 200'000; ++i) {
        const std::int64_t root = draw.edgy(kLow, kHigh) - (draw.once_in(3) ? draw.in<std::int64_t>(0, 3) : 0);
        if (root < kLow) continue;
        const std::int64_t square = root * root;
        for (const std::int64_t value : {square, square + 1, square + root, square + 2 * root})
            CHECK_FOR(std::to_string(value), is_root(integer_sqrt(value), value));
        if (square > kLow * kLow) CHECK_FOR(std::to_string(square - 1), is_root(integer_sqrt(square - 1), square - 1));
    }
    const std::int64_t last = (std::int64_t{1} << 62) - 1;
    CHECK(is_root(integer_sqrt(last), last) && is_root(integer_sqrt(std::int64_t{1} << 60), std::int64_t{1} << 60));
}

void inverse_roots() {
    Draw draw(2);
    for (int i = 0; i < 200'000; ++i) {
        const std::int64_t q = draw.in<std::int64_t>(1, (std::int64_t{1} << 62) - 1) >> draw.in(0, 61);
        if (q < 1) continue;
        const auto [inverse, k] = inverse_root(q);
        int bits = 0;
        while (q >> bits) ++bits;
        CHECK_FOR(std::to_string(q), k == (62 - bits) / 2);
        // inverse = ⌊2^61 / root⌋ of a root in [2^30, 2^31)
        const std::int64_t root = integer_sqrt(q << 2 * k);
        CHECK_FOR(std::to_string(q), inverse == (std::int64_t{1} << 61) / root && inverse >= std::int64_t{1} << 30);
    }
}

void rescales() {
    Draw draw(3);
    for (int i = 0; i < 200'000; ++i) {
        const int shift = draw.edgy(2, 62);
        const Factor by =
            make_factor(draw.edgy<std::int64_t>(0, (std::int64_t{1} << 31) - 1), shift, std::int64_t{1} << 31);
        const std::int64_t value = draw.edgy<std::int64_t>(-(std::int64_t{1} << 31) + 1, (std::int64_t{1} << 31) - 1);
        const Wide exact = (Wide{value} * by.mantissa + (Wide{1} << (shift - 1))) >> shift;
        CHECK(rescale(value, by) == exact);
        // the same as the end of a matrix product, in both of its forms
        const Format to = {0, -32767, 32767};
        FactorTable table(kPanelChannels, to);
        table.set(0, 0, static_cast<std::int32_t>(by.mantissa), shift, std::abs(value));
        table.finish();
        const std::int32_t sum = static_cast<std::int32_t>(value);
        std::int16_t found = 0;
        all_kernels().back().rows->finish[1]({&sum, kPanelChannels, 1, 1}, &found, 0, table.from(0));
        CHECK(found == (exact < -32767 ? -32767 : exact > 32767 ? 32767 : static_cast<std::int16_t>(exact)));
    }
}

// p = min(⌊(2·one·e + Σe) / (2·Σe)⌋, qmax), from powers that are the function's own.
template <class Out>
void softmax_of(std::size_t count, Draw& draw) {
    Heap<std::int32_t> table(256, draw, 0, 1 << 16);
    table[0] = 1 << 16;
    const int shift = draw.in(2, 40);
    const Factor by = make_factor(draw.in<std::int64_t>(0, (std::int64_t{1} << 31) - 1), shift, 1 << 17);
    const std::int32_t one = sizeof(Out) == 1 ? 256 : 1 << 15, largest = sizeof(Out) == 1 ? 255 : 32767;
    const SoftmaxKernel op = {table.data(), by, one, draw.once_in(2) ? largest : draw.in(1, largest), nullptr};
    const Heap<std::int16_t> scores(count, draw, draw.in(-32767, 32000), 32767);
    Heap<std::int32_t> powers(count);
    Heap<Out> found(count);
    softmax(scores.data(), found.data(), powers.data(), static_cast<std::int64_t>(count), op);
    std::int16_t highest = scores[0];
    for (std::size_t i = 0; i < count; ++i) highest = std::max(highest, scores[i]);
    Wide total = 0;
    std::vector<Wide> e(count);
    for (std::size_t i = 0; i < count; ++i) {
        const Wide t = (Wide{highest - scores[i]} * by.mantissa + by.half) >> by.shift;
        const int down = static_cast<int>(std::min<Wide>(t >> 8, 17));
        e[i] = (table[static_cast<std::size_t>(t & 255)] + ((1 << down) >> 1)) >> down;
        total += e[i];
    }
    for (std::size_t i = 0; i < count; ++i) {
        const Wide exact = std::min<Wide>((2 * one * e[i] + total) / (2 * total), op.qmax);
        CHECK_FOR(std::to_string(count) + " scores", found[i] == exact);
    }
}

void softmaxes() {
    Draw draw(4);
    for (int i = 0; i < 3'000; ++i) {
        const auto count = static_cast<std::size_t>(draw.once_in(50) ? draw.in(1000, 5000) : draw.in(1, 60));
        softmax_of<std::uint8_t>(count, draw);
        softmax_of<std::int16_t>(count, draw);
    }
}

// The division as a multiplication, for every power beside sums up to the largest that it is used for.
void divisions() {
    Draw draw(5);
    for (int i = 0; i < 300'000; ++i) {
        const std::int64_t total = draw.once_in(3) ? draw.in<std::int64_t>(1 << 16, 1 << 20)
                                                   : draw.in<std::int64_t>(1 << 16, (std::int64_t{1} << 36) - 1);
        const int m = 18 + 64 - __builtin_clzll(static_cast<unsigned long long>(total));
        const std::int64_t reciprocal = ((std::int64_t{256} << m) + total - 1) / total,
                           half = std::int64_t{1} << (m - 1);
        // where the quotient changes, and at random
        const std::int64_t step = (total * (2 * draw.in(0, 255) + 1) + 511) / 512;
        for (const std::int64_t e : {step - 1, step, step + 1, draw.in<std::int64_t>(0, 1 << 16)}) {
            if (e < 0 || e > 1 << 16) continue;
            CHECK((e * reciprocal + half) >> m == (2 * 256 * e + total) / (2 * total));
        }
    }
}

}  // namespace
}  // namespace mobilequant

int main() {
    mobilequant::square_roots();
    mobilequant::inverse_roots();
    mobilequant::rescales();
    mobilequant::softmaxes();
    mobilequant::divisions();
    return mobilequant::test::result();
}
