#include "runtime/steps/attention.h"

#include <algorithm>
#include <cstring>

#include "runtime/kv_cache.h"

namespace mobilequant {
namespace {

std::int64_t round_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; }
std::int64_t round_down(std::int64_t value, std::int64_t unit) { return value / unit * unit; }

// Modulo 2^32, as tiles sum: with an offset, sums over a long context leave int32 on the way to what fits.
std::int32_t wrapped(std::int32_t sum, std::uint32_t more) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) + more); }

struct Range {
    std::int64_t first, last;  // [first, last)
    std::int64_t size() const { return std::max<std::int64_t>(last - first, 0); }
};

// Scores, powers and probabilities of some query rows, by position.
struct Scratch {
    Scratch(std::int64_t rows, std::int64_t positions)
        : stride(round_up(positions, kPanelChannels)),
          scores(static_cast<std::size_t>(rows * stride) * 2),
          seen(static_cast<std::size_t>(stride) * 2),
          powers(static_cast<std::size_t>(stride) * 4),
          found(static_cast<std::size_t>(stride) * 2),
          probabilities(static_cast<std::size_t>(rows * stride) * 2) {}

    std::int64_t stride;
    AlignedBytes scores, seen, powers, found, probabilities;
};

class AttentionStep final : public Step {
  public:
    AttentionStep(const AttentionOps& ops, const Site& site)
        : ops_(ops),
          kernels_(site.kernels),
          queries_(site.place(ops.scores.queries)),
          keys_(site.place(ops.scores.keys)),
          values_(site.place(ops.context.values)),
          to_(site.place(ops.context.output)),
          score_type_(site.type(ops.scores.output)),
          softmax_type_(site.type(ops.softmax.input)),
          probability_type_(site.type(ops.softmax.output)),
          out_type_(site.type(ops.context.output)),
          num_kv_heads_(site.graph.caches[static_cast<std::size_t>(ops.scores.layer)].num_kv_heads),
          num_prefix_(site.graph.num_prefix),
          score_format_(site.format(ops.scores.output)),
          out_format_(site.format(ops.context.output)),
          softmax_{ops.softmax.table->as<std::int32_t>(), factor(ops.softmax.rescale),
                   static_cast<std::int32_t>(ops.softmax.one), site.format(ops.softmax.output).qmax} {}

    bool by_rows() const override { return false; }

    void run(const Call& call, const Member& member) const override {
        KVCache& cache = call.caches[static_cast<std::size_t>(ops_.scores.layer)];
        append(cache, call, member);
        member.barrier();
        const std::int64_t at_once = rows_at_once(), blocks = (call.rows + at_once - 1) / at_once;
        const std::int64_t tasks = blocks * ops_.scores.num_heads;
        Scratch scratch(at_once, call.position + call.rows);
        // Later rows see more: dealt out in turn, each member gets early and late ones.
        for (std::int64_t task = member.index(); task < tasks; task += member.size()) {
            const std::int64_t first = task / ops_.scores.num_heads * at_once;
            block(cache, call, member, task % ops_.scores.num_heads, first, std::min(call.rows, first + at_once), scratch);
        }
    }

  private:
    std::int64_t rows_at_once() const { return probability_type_ == 1 ? kernels_.max_rows / 2 : kernels_.max_rows; }

    void append(KVCache& cache, const Call& call, const Member& member) const {
        const auto [first, last] = member.share(num_kv_heads_);
        for (std::int64_t row = 0; row < call.rows; ++row) {
            const auto* keys = reinterpret_cast<const std::uint8_t*>(call.row(keys_, row, member));
            const auto* values = reinterpret_cast<const std::uint8_t*>(call.row(values_, row, member));
            for (std::int64_t head = first; head < last; ++head) {
                cache.write_key(head, call.position + row, keys + head * ops_.scores.head_dim);
                cache.write_value(head, call.position + row, values + head * ops_.scores.head_dim);
            }
        }
    }

    // Positions before `position + 1` that a token there sees: the prefix, and the window or all.
    Range window_of(std::int64_t position) const {
        const std::int64_t window = ops_.scores.window;
        const std::int64_t start = window > 0 ? std::max(num_prefix_, position - window + 1) : 0;
        return {std::min(start, position + 1), position + 1};
    }
    Range prefix_of(std::int64_t position) const {
        return {0, std::min({num_prefix_, window_of(position).first, position + 1})};
    }

    void block(KVCache& cache, const Call& call, const Member& member, std::int64_t head, std::int64_t first, std::int64_t last,
               Scratch& scratch) const {
        const Range all = {window_of(call.position + first).first, call.position + last};
        const Range prefix = {0, std::min(prefix_of(call.position + last - 1).last, all.first)};
        const std::int64_t kv_head = head * num_kv_heads_ / ops_.scores.num_heads;
        for (const Range& range : {prefix, all}) scores(cache, call, member, head, kv_head, first, last, range, scratch);
        std::memset(scratch.probabilities.data(), 0, scratch.probabilities.size());
        for (std::int64_t row = first; row < last; ++row) probabilities(call, row, row - first, scratch);
        contexts(cache, call, member, head, kv_head, first, last, prefix, all, scratch);
    }

    void scores(const KVCache& cache, const Call& call, const Member& member, std::int64_t head, std::int64_t kv_head,
                std::int64_t first, std::int64_t last, const Range& range, Scratch& scratch) const {
        if (range.size() == 0) return;
        const auto* queries = reinterpret_cast<const std::uint8_t*>(call.row(queries_, first, member)) + head * ops_.scores.head_dim;
        const Rows rows = {queries, static_cast<std::ptrdiff_t>(queries_.stride), static_cast<std::int32_t>(last - first)};
        const Factor by = factor(ops_.scores.rescale);
        for (std::int64_t panel = range.first / kPanelChannels; panel * kPanelChannels < range.last; ++panel) {
            alignas(64) std::int32_t sums[kMaxTileRows * kPanelChannels];
            kernels_.tile8.run(cache.key_panel(kv_head, panel), rows, sums);
            const std::int32_t* key_sums = cache.key_sums(kv_head, panel);
            for (int r = 0; r < rows.count; ++r) {
                for (int s = 0; s < kPanelChannels; ++s) sums[r * kPanelChannels + s] -= (128 - kernels_.tile8.offset) * key_sums[s];
                std::byte* out = score(scratch, r, panel * kPanelChannels, score_type_);
                kernels_.rows->requantize[score_type_](sums + r * kPanelChannels, out, kPanelChannels, by, score_format_);
            }
        }
    }

    static std::byte* score(Scratch& scratch, std::int64_t row, std::int64_t position, int type) {
        return scratch.scores.data() + (row * scratch.stride + position) * (type + 1);
    }

    void probabilities(const Call& call, std::int64_t row, std::int64_t r, Scratch& scratch) const {
        const Range window = window_of(call.position + row), prefix = prefix_of(call.position + row);
        const std::int64_t count = prefix.size() + window.size(), bytes = softmax_type_ + 1;
        std::byte* seen = scratch.seen.data();
        std::int64_t at = 0;
        for (const Range& range : {prefix, window}) {
            if (range.size() == 0) continue;
            const std::byte* from = score(scratch, r, range.first, score_type_);
            if (ops_.table)
                kernels_.rows->table[score_type_][softmax_type_](from, seen + at * bytes, range.size(), ops_.table->table->data);
            else
                std::memcpy(seen + at * bytes, from, static_cast<std::size_t>(range.size() * bytes));
            at += range.size();
        }
        kernels_.rows->softmax[softmax_type_][probability_type_](seen, scratch.found.data(), scratch.powers.as<std::int32_t>(),
                                                                  count, softmax_);
        at = 0;
        for (const Range& range : {prefix, window}) {
            place(scratch, r, range, at);
            at += range.size();
        }
    }

    // Probabilities of 16 bits as two rows of unsigned codes: p = 256 · high + low.
    void place(Scratch& scratch, std::int64_t r, const Range& range, std::int64_t at) const {
        if (range.size() == 0) return;
        auto* rows = scratch.probabilities.as<std::uint8_t>();
        if (probability_type_ == 0) {
            std::memcpy(rows + r * scratch.stride + range.first, scratch.found.data() + at, static_cast<std::size_t>(range.size()));
            return;
        }
        const auto* found = scratch.found.as<std::int16_t>() + at;
        std::uint8_t *high = rows + 2 * r * scratch.stride + range.first, *low = high + scratch.stride;
        for (std::int64_t i = 0; i < range.size(); ++i) {
            high[i] = static_cast<std::uint8_t>(found[i] >> 8);
            low[i] = static_cast<std::uint8_t>(found[i] & 255);
        }
    }

    void contexts(const KVCache& cache, const Call& call, const Member& member, std::int64_t head, std::int64_t kv_head,
                  std::int64_t first, std::int64_t last, const Range& prefix, const Range& all, Scratch& scratch) const {
        const auto count = static_cast<std::int32_t>((last - first) * (probability_type_ + 1));
        const Factor by = factor(ops_.context.rescale);
        for (std::int64_t panel = 0; panel < cache.value_panels(); ++panel) {
            alignas(64) std::int32_t sums[kMaxTileRows * kPanelChannels] = {};
            const std::int64_t start = round_down(all.first, kColumnPad);
            add_products(cache, kv_head, panel, {0, std::min(round_up(prefix.last, kColumnPad), start)}, count, scratch, sums);
            add_products(cache, kv_head, panel, {start, round_up(all.last, kColumnPad)}, count, scratch, sums);
            const std::int64_t dim = panel * kPanelChannels;
            const std::int64_t dims = std::min<std::int64_t>(kPanelChannels, ops_.context.head_dim - dim);
            for (std::int64_t r = 0; r < last - first; ++r) {
                std::int32_t* sum = sums + r * (probability_type_ + 1) * kPanelChannels;
                for (int d = 0; probability_type_ == 1 && d < kPanelChannels; ++d) sum[d] = 256 * sum[d] + sum[kPanelChannels + d];
                std::byte* out = call.row(to_, first + r, member) + (head * ops_.context.head_dim + dim) * (out_type_ + 1);
                kernels_.rows->requantize[out_type_](sum, out, dims, by, out_format_);
            }
        }
    }

    void add_products(const KVCache& cache, std::int64_t kv_head, std::int64_t panel, const Range& range, std::int32_t count,
                      Scratch& scratch, std::int32_t* sums) const {
        if (range.size() == 0) return;
        alignas(64) std::int32_t part[kMaxTileRows * kPanelChannels];
        const auto* codes = scratch.probabilities.as<std::uint8_t>() + range.first;
        const Panel values = cache.value_panel(kv_head, panel, range.first, range.size());
        kernels_.tile8.run(values, {codes, scratch.stride, count}, part);
        for (std::int32_t i = 0; i < count * kPanelChannels; ++i) sums[i] = wrapped(sums[i], static_cast<std::uint32_t>(part[i]));
        if (const std::int32_t offset = kernels_.tile8.offset) {  // what the tile took from each probability
            const std::vector<std::uint8_t> ones(static_cast<std::size_t>(range.size()), static_cast<std::uint8_t>(offset + 1));
            kernels_.tile8.run(values, {ones.data(), 0, 1}, part);
            for (std::int32_t i = 0; i < count * kPanelChannels; ++i)
                sums[i] = wrapped(sums[i], static_cast<std::uint32_t>(offset) * static_cast<std::uint32_t>(part[i % kPanelChannels]));
        }
    }

    AttentionOps ops_;
    const Kernels& kernels_;
    Place queries_, keys_, values_, to_;
    int score_type_, softmax_type_, probability_type_, out_type_;
    std::int64_t num_kv_heads_, num_prefix_;
    Format score_format_, out_format_;
    SoftmaxKernel softmax_;
};

}  // namespace

std::unique_ptr<Step> make_attention(const AttentionOps& ops, const Site& site) {
    return std::make_unique<AttentionStep>(ops, site);
}

}  // namespace mobilequant
