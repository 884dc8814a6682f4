// How fast each kernel of each kind is: products against what the processor can multiply or read, and operations on rows.
//
//     kernel_bench [KERNELS …]      one JSON object a line; all kinds that this machine can run, unless some are named
//
// Each number is the median of several tries, of one thread. 1 multiply-add = 2 operations, 1 GB = 1e9 bytes.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "package/error.h"
#include "runtime/aligned.h"
#include "runtime/factor_table.h"

namespace mobilequant {
namespace {

constexpr int kTries = 7;
constexpr double kTrySeconds = 0.02;
constexpr std::size_t kStreamBytes = std::size_t{64} << 20;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Seconds of one call of `work`.
double seconds(const std::function<void()>& work) {
    std::int64_t calls = 1;
    std::vector<double> tries;
    while (static_cast<int>(tries.size()) < kTries) {
        const double start = now();
        for (std::int64_t i = 0; i < calls; ++i) work();
        const double each = (now() - start) / static_cast<double>(calls);
        if (each * static_cast<double>(calls) < kTrySeconds)
            calls *= 2;
        else
            tries.push_back(each);
    }
    std::nth_element(tries.begin(), tries.begin() + kTries / 2, tries.end());
    return tries[kTries / 2];
}

void tell(const Kernels& kernels, const std::string& name, const char* unit, double value) {
    std::printf("{\"kernels\": \"%s\", \"name\": \"%s\", \"unit\": \"%s\", \"value\": %.3f}\n",
                std::string(kernels.name).c_str(), name.c_str(), unit, value);
    std::fflush(stdout);
}

struct Weights {
    const char* name;
    int bits;
    std::int32_t group;  // 0: per channel
};
constexpr Weights kWeights[] = {{"W4", 4, 0}, {"W4 g64", 4, 64}, {"W8", 8, 0}};

std::size_t panel_bytes(const Weights& weights, std::int32_t columns) {
    return static_cast<std::size_t>(columns) * kPanelChannels * static_cast<std::size_t>(weights.bits) / 8;
}

Panel panel_at(const std::byte* memory, const Weights& weights, std::int32_t columns, const std::uint8_t* multiplier) {
    const std::int32_t groups = weights.group ? columns / weights.group : 1;
    return {memory, columns, groups, weights.group ? multiplier : nullptr};
}

void products(const Kernels& kernels) {
    alignas(64) std::int32_t sums[kMaxTileRows * kPanelChannels];
    for (const Weights& weights : kWeights) {
        const Tile tile = (weights.bits == 4 ? kernels.tile4 : kernels.tile8).run;
        for (const std::int32_t columns : {576, 1536, 2048, 5632}) {
            const AlignedBytes memory(panel_bytes(weights, columns));
            const std::vector<std::uint8_t> codes(static_cast<std::size_t>(columns * kernels.max_rows), 7);
            const std::vector<std::uint8_t> multiplier(static_cast<std::size_t>(columns), 3);
            const Panel panel = panel_at(memory.data(), weights, columns, multiplier.data());
            for (const int rows : {1, kernels.max_rows}) {
                const double each = seconds([&] { tile(panel, {codes.data(), columns, rows}, sums); });
                const std::string name = std::string(weights.name) + ", " + std::to_string(columns) + " columns, " +
                                         std::to_string(rows) + (rows == 1 ? " row" : " rows");
                tell(kernels, name, "GOPS", 2e-9 * columns * kPanelChannels * rows / each);
                if (kernels.max_rows == 1) break;
            }
        }
    }
}

// One row times more weights than any cache holds: a token of text.
void streams(const Kernels& kernels) {
    constexpr std::int32_t kColumns = 2048;
    AlignedBytes memory(kStreamBytes);
    std::memset(memory.data(), 0x35, memory.size());
    const std::vector<std::uint8_t> codes(kColumns, 7), multiplier(kColumns, 3);
    alignas(64) std::int32_t sums[kPanelChannels];
    for (const Weights& weights : kWeights) {
        const Tile tile = (weights.bits == 4 ? kernels.tile4 : kernels.tile8).run;
        const std::size_t bytes = panel_bytes(weights, kColumns), panels = memory.size() / bytes;
        const double all = seconds([&] {
            for (std::size_t p = 0; p < panels; ++p)
                tile(panel_at(memory.data() + p * bytes, weights, kColumns, multiplier.data()), {codes.data(), 0, 1},
                     sums);
        });
        tell(kernels, std::string(weights.name) + ", from memory, 1 row", "GB/s",
             1e-9 * static_cast<double>(panels * bytes) / all);
    }
}

void row(const Kernels& kernels, const std::string& name, std::int64_t count, const std::function<void()>& work) {
    tell(kernels, name, "ns an element", 1e9 * seconds(work) / static_cast<double>(count));
}

void finishes(const Kernels& kernels) {
    constexpr int kRows = 8;
    const std::vector<std::int32_t> sums(kRows * kPanelChannels, 12345);
    std::vector<std::byte> out(kRows * kPanelChannels * 2);
    for (const bool narrow : {true, false}) {
        FactorTable factors(kPanelChannels, {128, 0, 255});
        for (int c = 0; c < kPanelChannels; ++c)
            factors.set(c, 5, 1 << 30, 40, narrow ? 1 << 20 : std::int64_t{1} << 40);
        factors.finish();
        row(kernels, narrow ? "finish of sums" : "finish of sums, wide", kRows * kPanelChannels, [&] {
            kernels.rows->finish[0]({sums.data(), kPanelChannels, kRows, kPanelChannels}, out.data(), kPanelChannels,
                                    factors.from(0));
        });
    }
}

void operations(const Kernels& kernels) {
    constexpr std::int32_t kChannels = 1536, kHead = 64;
    constexpr std::int64_t kReach = 32767;
    const std::vector<std::uint8_t> bytes(kChannels, 77), exponent(kChannels), table(256, 9);
    const std::vector<std::int16_t> words(kChannels, 1234), gain(kChannels, 20000);
    const std::vector<std::int32_t> bias(kChannels);
    std::vector<std::byte> out(kChannels * 2);
    const Format byte = {128, 0, 255}, word = {0, -32767, 32767};
    const Elementwise& rows = *kernels.rows;
    const NormKernel norm = {0,    exponent.data(), gain.data(), bias.data(),
                             1000, false,           kChannels,   make_factor(1 << 30, 40, (1 << 30) + (1 << 24)),
                             byte};
    row(kernels, "norm, 16 to 8 bits", kChannels, [&] { rows.norm[1][0](words.data(), out.data(), norm); });
    const RopeKernel rope = {128, kHead / 2, kHead, gain.data(), gain.data(), make_factor(1 << 30, 44, 1 << 24), byte};
    row(kernels, "rope, 8 bits", kHead, [&] { rows.rope[0][0](bytes.data(), out.data(), 0, rope); });
    row(kernels, "table, 8 bits", kChannels,
        [&] { rows.table[0][0](bytes.data(), out.data(), kChannels, table.data()); });
    const MultiplyKernel times = {128, 128, make_factor(1 << 30, 37, 1 << 16), byte};
    row(kernels, "multiply, 8 bits", kChannels,
        [&] { rows.multiply[0][0][0](bytes.data(), bytes.data(), out.data(), kChannels, times); });
    const Factor keep = make_factor(1 << 30, 31, kReach);
    const AddKernel plus = {0, 0, keep, keep, make_factor(1 << 30, 31, 2 * kReach), word};
    row(kernels, "add, 16 bits", kChannels,
        [&] { rows.add[1][1][1](words.data(), words.data(), out.data(), kChannels, plus); });
}

void softmaxes(const Kernels& kernels) {
    std::vector<std::int32_t> table(256, 1 << 16);
    std::vector<std::uint16_t> entries(257, 65535);
    const SoftmaxKernel op = {table.data(), make_factor(1 << 30, 32, 65535), 256, 255, entries.data() + 1};
    for (const std::int64_t count : {512, 4096}) {
        std::vector<std::int16_t> scores(static_cast<std::size_t>(count));
        for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = static_cast<std::int16_t>(i * 7919 % 20000);
        std::vector<std::uint8_t> found(scores.size());
        std::vector<std::int32_t> powers(scores.size());
        row(kernels, "softmax of " + std::to_string(count) + ", 16 to 8 bits", count,
            [&] { kernels.rows->softmax[1][0](scores.data(), found.data(), powers.data(), count, op); });
    }
}

void measure(const Kernels& kernels) {
    products(kernels);
    streams(kernels);
    finishes(kernels);
    operations(kernels);
    softmaxes(kernels);
}

}  // namespace
}  // namespace mobilequant

int main(int count, char** given) {
    using namespace mobilequant;
    try {
        for (int i = 1; i < count; ++i) measure(choose_kernels(given[i]));
        if (count == 1)
            for (const Kernels& each : all_kernels())
                if (each.supported()) measure(each);
    } catch (const UsageError& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
    return 0;
}
