// Every function on rows, of every kind of processor, against the scalar one: random numbers and the ends of their
// ranges.
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "runtime/factor_table.h"
#include "tests/check.h"
#include "tests/draw.h"

namespace mobilequant {
namespace {

using test::Draw, test::Heap;

constexpr int kRepeats = 150;
const std::vector<std::size_t> kCounts = {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 200};

// Codes of a type: 0 uint8, 1 int16. What lies behind them is not theirs.
class Codes {
  public:
    Codes(std::size_t count, int type) : bytes_(count * static_cast<std::size_t>(type + 1)) {}
    Codes(std::size_t count, int type, const Format& format, Draw& draw) : Codes(count, type) {
        for (std::size_t i = 0; i < count; ++i) {
            const std::int32_t code = draw.edgy(format.qmin, format.qmax);
            std::memcpy(bytes_.data() + i * static_cast<std::size_t>(type + 1), &code,
                        static_cast<std::size_t>(type + 1));
        }
    }
    void* data() { return bytes_.data(); }
    const void* data() const { return bytes_.data(); }
    bool operator==(const Codes& other) const { return bytes_ == other.bytes_; }

  private:
    Heap<std::byte> bytes_;
};

Format any_format(int type, Draw& draw) {
    const std::int32_t low = type == 0 ? 0 : -32767, high = type == 0 ? 255 : 32767;
    const std::int32_t qmin = draw.once_in(2) ? low : draw.in(low, 0), qmax = draw.once_in(2) ? high : draw.in(1, high);
    return {type == 0 ? draw.in(qmin, qmax) : 0, qmin, qmax};
}

// What a number of at most `bound` is rescaled by: anything, or what leaves something of it.
Factor factor_of(std::int64_t bound, Draw& draw) {
    constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1;
    if (draw.once_in(3)) return make_factor(draw.edgy<std::int64_t>(0, kMost), draw.edgy(2, 62), bound);
    int bits = 1;
    while (bound >> bits) ++bits;
    return make_factor(draw.in<std::int64_t>(1 << 30, kMost), draw.in(31 + std::max(0, bits - 16), 31 + bits), bound);
}

std::int64_t reach(const Format& format) {
    return std::max(format.qmax - format.zero_point, format.zero_point - format.qmin);
}

// Calls `work(variant)` for each kind but scalar, and compares what it gives with what it gives for scalar.
template <class Work>
void compare(const char* function, const Work& work) {
    const Kernels& scalar = all_kernels().back();
    const auto expected = work(*scalar.rows);
    for (const Kernels& each : all_kernels().first(all_kernels().size() - 1)) {
        // tables of functions without vectors of their own are scalar's
        if (each.name == "avx-vnni" || !each.supported() || each.rows == scalar.rows) continue;
        CHECK_FOR(std::string(function) + " of " + std::string(each.name), work(*each.rows) == expected);
    }
}

void norms(int in, int out, Draw& draw) {
    const std::int32_t group =
        draw.once_in(4) ? 1 << 11 : static_cast<std::int32_t>(kCounts[draw.in<std::size_t>(0, kCounts.size() - 1)]);
    const auto count = static_cast<std::size_t>(group);
    const int most = draw.once_in(2) ? 0 : 15 - (31 - __builtin_clz(static_cast<unsigned>(2 * group - 1)));
    const Heap<std::uint8_t> exponent(count, draw, 0, most);
    const Heap<std::int16_t> gain(count, draw, -32768, 32767);
    const Heap<std::int32_t> bias(count, draw, draw.once_in(2) ? 0 : -(1 << 30), draw.once_in(2) ? 0 : 1 << 30);
    const Format from = any_format(in, draw);
    const std::int64_t epsilon =
        draw.once_in(2) ? draw.in<std::int64_t>(0, 1000) : draw.edgy<std::int64_t>(0, (std::int64_t{1} << 61) - 1);
    const NormKernel op = {from.zero_point,
                           exponent.data(),
                           gain.data(),
                           bias.data(),
                           epsilon,
                           draw.once_in(2),
                           group,
                           factor_of((1 << 30) + (1 << 24), draw),
                           any_format(out, draw)};
    const Codes x(count, in, from, draw);
    compare("norm", [&](const Elementwise& rows) {
        Codes y(count, out);
        rows.norm[in][out](x.data(), y.data(), op);
        return y;
    });
}

void ropes(int in, int out, Draw& draw) {
    const std::int32_t half = draw.in(1, 40), head_dim = 2 * half + draw.in(0, 20);
    const auto count = static_cast<std::size_t>(head_dim);
    const Heap<std::int16_t> cos(static_cast<std::size_t>(3 * half), draw, -16384, 16384),
        sin(cos.size(), draw, -16384, 16384);
    const Format from = any_format(in, draw);
    const RopeKernel op = {from.zero_point,      half,       head_dim,
                           cos.data(),           sin.data(), factor_of(reach(from) << 15, draw),
                           any_format(out, draw)};
    const Codes x(count, in, from, draw);
    const std::int64_t position = draw.in(0, 2);
    compare("rope", [&](const Elementwise& rows) {
        Codes y(count, out);
        rows.rope[in][out](x.data(), y.data(), position, op);
        return y;
    });
}

void tables(int in, int out, std::size_t count, Draw& draw) {
    const int entry = in == 0 ? out : 1;  // table16 has int16 entries for any output
    const Format entries = {0, entry == 0 ? 0 : (in == 1 && out == 0 ? 0 : -32767),
                            entry == 0 ? 255 : (in == 1 && out == 0 ? 255 * 128 : 32767)};
    const Codes table(in == 0 ? 256 : 513, entry, entries, draw), x(count, in, any_format(in, draw), draw);
    compare("table", [&](const Elementwise& rows) {
        Codes y(count, out);
        rows.table[in][out](x.data(), y.data(), static_cast<std::int64_t>(count), table.data());
        return y;
    });
}

void products(int a, int b, int out, std::size_t count, Draw& draw) {
    const Format from_a = any_format(a, draw), from_b = any_format(b, draw);
    const Codes left(count, a, from_a, draw), right(count, b, from_b, draw);
    const MultiplyKernel times = {from_a.zero_point, from_b.zero_point, factor_of(reach(from_a) * reach(from_b), draw),
                                  any_format(out, draw)};
    compare("multiply", [&](const Elementwise& rows) {
        Codes y(count, out);
        rows.multiply[a][b][out](left.data(), right.data(), y.data(), static_cast<std::int64_t>(count), times);
        return y;
    });
    Factor by_a = factor_of(reach(from_a), draw), by_b = factor_of(reach(from_b), draw);
    const auto largest = [](const Format& from, const Factor& by) {
        return (reach(from) * by.mantissa >> by.shift) + 1;
    };
    if (largest(from_a, by_a) + largest(from_b, by_b) >= std::int64_t{1} << 31)
        return;  // no graph has such an addition
    const Factor by = factor_of(largest(from_a, by_a) + largest(from_b, by_b), draw);
    const AddKernel plus = {from_a.zero_point, from_b.zero_point, by_a, by_b, by, any_format(out, draw)};
    compare("add", [&](const Elementwise& rows) {
        Codes y(count, out);
        rows.add[a][b][out](left.data(), right.data(), y.data(), static_cast<std::int64_t>(count), plus);
        return y;
    });
}

// Sums of a few rows of some panels, in the narrow form where it is one; wide, they are the same.
void sums(int out, Draw& draw) {
    constexpr int kWidth = 3 * kPanelChannels;
    const int rows = draw.in(1, 8), channels = draw.once_in(2) ? kPanelChannels : draw.in(1, kWidth);
    const std::int64_t most = (std::int64_t{1} << draw.in(8, 30)) - 1;
    const Heap<std::int32_t> values(static_cast<std::size_t>(rows * kWidth), draw, -most, most),
        bias(kWidth, draw, -most, most);
    const Format to = any_format(out, draw);
    FactorTable fitting(kWidth, to), any(kWidth, to);
    for (int c = 0; c < kWidth; ++c) {
        const Factor by = factor_of(2 * most, draw);
        const auto channel = static_cast<std::size_t>(c);
        fitting.set(c, bias[channel], static_cast<std::int32_t>(by.mantissa), by.shift, 2 * most);
        any.set(c, bias[channel], static_cast<std::int32_t>(by.mantissa), by.shift, std::int64_t{1} << 40);
    }
    fitting.finish(), any.finish();
    const auto finished = [&](const Elementwise& kernels, const FactorTable& table) {
        const std::ptrdiff_t stride = kWidth * (out + 1);
        Codes y(static_cast<std::size_t>(rows * kWidth), out);
        kernels.finish[out]({values.data(), kWidth, rows, channels}, y.data(), stride, table.from(0));
        return y;
    };
    CHECK(finished(*all_kernels().back().rows, fitting) == finished(*all_kernels().back().rows, any));
    compare("finish", [&](const Elementwise& kernels) { return finished(kernels, fitting); });
    compare("wide finish", [&](const Elementwise& kernels) { return finished(kernels, any); });
}

void softmaxes(int in, int out, std::size_t count, Draw& draw) {
    Heap<std::int32_t> table(256, draw, draw.in(0, 1), 1 << 16);
    table[0] = 1 << 16;
    const Format from = any_format(in, draw);
    const std::int32_t largest = out == 0 ? 255 : 32767;
    std::vector<std::uint16_t> entries(257);  // behind one that is never used
    bool fits = true;
    for (std::size_t i = 0; i < 256; ++i)
        fits = fits && table[i] > 0, entries[i + 1] = static_cast<std::uint16_t>(table[i] - 1);
    const SoftmaxKernel op = {table.data(), factor_of((1 << 16) - 1, draw), out == 0 ? 256 : 1 << 15,
                              draw.once_in(2) ? largest : draw.in(1, largest), fits ? entries.data() + 1 : nullptr};
    const Codes x(count, in, from, draw);
    compare("softmax", [&](const Elementwise& rows) {
        Codes y(count, out);
        Heap<std::int32_t> powers(count);
        rows.softmax[in][out](x.data(), y.data(), powers.data(), static_cast<std::int64_t>(count), op);
        return y;
    });
}

void all() {
    Draw draw(5);
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
        for (const int in : {0, 1}) {
            for (const int out : {0, 1}) {
                norms(in, out, draw);
                ropes(in, out, draw);
                for (const std::size_t count : kCounts) {
                    tables(in, out, count, draw);
                    products(in, 0, out, count, draw);
                    products(in, 1, out, count, draw);
                    softmaxes(in, out, count, draw);
                    sums(out, draw);
                }
            }
        }
    }
}

}  // namespace
}  // namespace mobilequant

int main() {
    mobilequant::all();
    return mobilequant::test::result();
}
