#include "runtime/steps/attention.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "runtime/factor_table.h"
#include "runtime/kv_cache.h"
#include "runtime/round_up.h"
#include "runtime/steps/probabilities.h"
#include "runtime/trace.h"

namespace mobilequant {
namespace {

constexpr int kCacheZeroPoint = 128;

std::int64_t round_down(std::int64_t value, std::int64_t unit) { return value / unit * unit; }

// Modulo 2^32, as tiles sum: with an offset, sums over a long context leave int32 on the way to what fits.
std::int32_t wrapped(std::int32_t sum, std::uint32_t more) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) + more);
}

// The same factors for every channel of a panel.
FactorTable uniform(const Rescale& rescale, std::int64_t bound, const Format& to) {
    FactorTable table(kPanelChannels, to);
    for (int c = 0; c < kPanelChannels; ++c) table.set(c, 0, rescale.mantissa, rescale.shift, bound);
    table.finish();
    return table;
}

// Scores and probabilities of some query rows, by position; those of 16 bits have two rows of codes.
struct Square {
    std::byte* scores;
    std::uint8_t* codes;
    std::int64_t stride;  // positions from row to row

    static std::size_t bytes(std::int64_t rows, std::int64_t positions) {
        return static_cast<std::size_t>(rows * round_up(positions, kPanelChannels)) * 4;
    }
    Square(std::byte* memory, std::int64_t rows, std::int64_t positions)
        : scores(memory),
          codes(reinterpret_cast<std::uint8_t*>(memory) + rows * round_up(positions, kPanelChannels) * 2),
          stride(round_up(positions, kPanelChannels)) {}

    std::byte* score_row(std::int64_t row) const { return scores + row * stride * 2; }
    std::uint8_t* code_row(std::int64_t row, int planes) const { return codes + row * planes * stride; }
};

// Rows of queries of one key head: the same head of tokens that follow each other, or all heads of one token.
struct Queries {
    const std::uint8_t* codes;
    std::ptrdiff_t stride;
    std::int64_t kv_head, first;  // row of the square
    std::int32_t count;
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
          out_type_(site.type(ops.context.output)),
          num_heads_(ops.scores.num_heads),
          head_dim_(ops.scores.head_dim),
          num_kv_heads_(site.graph.caches[static_cast<std::size_t>(ops.scores.layer)].num_kv_heads),
          visibility_{site.graph.num_prefix, ops.scores.window},
          probabilities_(ops, site),
          score_factors_(
              uniform(ops.scores.rescale, std::int64_t{128} * 128 * head_dim_, site.format(ops.scores.output))),
          out_factors_(uniform(ops.context.rescale, 128 * (ops.softmax.one + site.graph.context),
                               site.format(ops.context.output))) {}

    bool by_rows() const override { return false; }
    std::size_t common_bytes(std::int64_t positions) const override { return Square::bytes(num_heads_, positions); }
    std::size_t scratch_bytes(std::int64_t positions) const override {
        return Square::bytes(rows_at_once(), positions) + probabilities_.scratch_bytes(positions);
    }

    void run(const Call& call, const Member& member) const override {
        KVCache& cache = call.caches[static_cast<std::size_t>(ops_.scores.layer)];
        append(cache, call, member);
        member.barrier();
        if (call.first == call.rows - 1)
            one_row(cache, call, member);
        else
            blocks(cache, call, member);
    }

  private:
    int rows_at_once() const { return std::max(1, kernels_.max_rows / probabilities_.planes()); }
    std::int64_t heads_of_key() const { return num_heads_ / num_kv_heads_; }

    void append(KVCache& cache, const Call& call, const Member& member) const {
        const auto [first, last] = member.share(num_kv_heads_);
        for (std::int64_t row = 0; row < call.rows; ++row) {
            const auto* keys = reinterpret_cast<const std::uint8_t*>(call.row(keys_, row, member));
            const auto* values = reinterpret_cast<const std::uint8_t*>(call.row(values_, row, member));
            for (std::int64_t head = first; head < last; ++head) {
                cache.write_key(head, call.position + row, keys + head * head_dim_);
                cache.write_value(head, call.position + row, values + head * head_dim_);
            }
        }
    }

    // What rows [first, last) see together; all there is for a trace, which shows scores that nobody sees too.
    std::array<Range, 2> seen(const Call& call, std::int64_t first, std::int64_t last) const {
        if (call.trace) return {Range{}, {0, call.position + call.rows}};
        return visibility_.of_all(call.position + first, call.position + last - 1);
    }

    // ── many rows: each member takes blocks of rows of one head, from scores to context ──────────────────────────────

    void blocks(const KVCache& cache, const Call& call, const Member& member) const {
        const std::int64_t at_once = rows_at_once(), rows = call.rows - call.first,
                           positions = call.position + call.rows;
        const std::int64_t tasks = (rows + at_once - 1) / at_once * num_heads_;
        const std::size_t bytes = Square::bytes(at_once, positions);
        std::byte* memory = call.workspace.scratch(member.index());
        const Square square(memory, at_once, positions);
        // Later rows see more: dealt out in turn, each member gets early and late ones.
        for (std::int64_t task = member.index(); task < tasks; task += member.size()) {
            const std::int64_t first = call.first + task / num_heads_ * at_once;
            block(cache, call, member, task % num_heads_, first, std::min(call.rows, first + at_once), square,
                  memory + bytes);
        }
    }

    void block(const KVCache& cache, const Call& call, const Member& member, std::int64_t head, std::int64_t first,
               std::int64_t last, const Square& square, std::byte* scratch) const {
        const auto ranges = seen(call, first, last);
        const auto* queries =
            reinterpret_cast<const std::uint8_t*>(call.row(queries_, first, member)) + head * head_dim_;
        const Queries rows = {queries, static_cast<std::ptrdiff_t>(queries_.stride), head / heads_of_key(), 0,
                              static_cast<std::int32_t>(last - first)};
        for (const Range& range : ranges)
            for (std::int64_t panel = range.first / kPanelChannels; panel * kPanelChannels < range.last; ++panel)
                scores(cache, rows, panel, square);
        for (std::int64_t row = first; row < last; ++row)
            row_probabilities(call, row, head, row - first, ranges, square, scratch);
        std::byte* out = call.row(to_, first, member) + head * head_dim_ * (out_type_ + 1);
        for (std::int64_t panel = 0; panel < cache.value_panels(); ++panel)
            context(cache, rows, panel, ranges, square, out, static_cast<std::ptrdiff_t>(to_.stride));
    }

    // ── one row: all heads of a key are the rows of one product; members divide positions, heads, and dimensions ─────

    void one_row(const KVCache& cache, const Call& call, const Member& member) const {
        const std::int64_t row = call.rows - 1, positions = call.position + call.rows;
        const Square square(call.workspace.common(), num_heads_, positions);
        const auto ranges = seen(call, row, call.rows);
        const std::int64_t prefix_panels = round_up(ranges[0].last, kPanelChannels) / kPanelChannels;
        const std::int64_t first_panel = std::max(prefix_panels, ranges[1].first / kPanelChannels);
        const std::int64_t last_panel = (ranges[1].last + kPanelChannels - 1) / kPanelChannels;
        const auto panels = member.share(prefix_panels + last_panel - first_panel);
        each_key(call, member, row, [&](const Queries& queries) {
            for (std::int64_t number = panels.first; number < panels.last; ++number)
                scores(cache, queries, number < prefix_panels ? number : number - prefix_panels + first_panel, square);
        });
        member.barrier();
        const auto heads = member.share(num_heads_);
        std::byte* scratch = call.workspace.scratch(member.index());
        for (std::int64_t head = heads.first; head < heads.last; ++head)
            row_probabilities(call, row, head, head, ranges, square, scratch);
        member.barrier();
        const auto parts = member.share(num_kv_heads_ * cache.value_panels());
        each_key(call, member, row, [&](const Queries& queries) {
            std::byte* out = call.row(to_, row, member) + queries.first * head_dim_ * (out_type_ + 1);
            for (std::int64_t panel = 0; panel < cache.value_panels(); ++panel)
                if (const std::int64_t part = queries.kv_head * cache.value_panels() + panel;
                    parts.first <= part && part < parts.last)
                    context(cache, queries, panel, ranges, square, out, head_dim_ * (out_type_ + 1));
        });
    }

    template <class Work>
    void each_key(const Call& call, const Member& member, std::int64_t row, Work work) const {
        const auto* codes = reinterpret_cast<const std::uint8_t*>(call.row(queries_, row, member));
        for (std::int64_t head = 0; head < num_heads_;) {
            const std::int64_t left = heads_of_key() - head % heads_of_key(),
                               count = std::min<std::int64_t>(left, rows_at_once());
            work(Queries{codes + head * head_dim_, head_dim_, head / heads_of_key(), head,
                         static_cast<std::int32_t>(count)});
            head += count;
        }
    }

    // ── the three parts ──────────────────────────────────────────────────────────────────────────────────────────────

    void scores(const KVCache& cache, const Queries& queries, std::int64_t panel, const Square& square) const {
        alignas(64) std::int32_t sums[kMaxTileRows * kPanelChannels];
        ChannelFactors factors = score_factors_.from(0);
        factors.bias = cache.key_bias(queries.kv_head, panel);
        for (std::int32_t done = 0; done < queries.count; done += kernels_.max_rows) {
            const std::int32_t count = std::min(queries.count - done, kernels_.max_rows);
            kernels_.tile8.run(cache.key_panel(queries.kv_head, panel),
                               {queries.codes + done * queries.stride, queries.stride, count}, sums);
            std::byte* out = square.score_row(queries.first + done) + panel * kPanelChannels * (score_type_ + 1);
            kernels_.rows->finish[score_type_]({sums, kPanelChannels, count, kPanelChannels}, out, square.stride * 2,
                                               factors);
        }
    }

    void row_probabilities(const Call& call, std::int64_t row, std::int64_t head, std::int64_t at,
                           const std::array<Range, 2>& ranges, const Square& square, std::byte* scratch) const {
        const int planes = probabilities_.planes();
        std::array<Range, 2> written;
        for (std::size_t i = 0; i < 2; ++i) written[i] = columns_of(ranges, i);
        probabilities_.run(square.score_row(at), call.position + row, written, square.code_row(at, planes),
                           square.stride, scratch);
        if (call.trace) record(call, row, head, at, square);
    }

    void record(const Call& call, std::int64_t row, std::int64_t head, std::int64_t at, const Square& square) const {
        const std::int64_t positions = call.position + call.rows;
        std::memcpy(call.trace->row(ops_.scores.output, head, row), square.score_row(at),
                    static_cast<std::size_t>(positions * (score_type_ + 1)));
        probabilities_.trace(square.score_row(at), square.code_row(at, probabilities_.planes()), square.stride,
                             positions, ops_.table ? call.trace->row(ops_.table->output, head, row) : nullptr,
                             call.trace->row(ops_.softmax.output, head, row));
    }

    // Columns of the product with the values: whole groups, each once.
    static Range columns_of(const std::array<Range, 2>& ranges, std::size_t number) {
        const std::int64_t start = round_down(ranges[1].first, kColumnPad);
        if (number == 1) return {start, round_up(ranges[1].last, kColumnPad)};
        return {0, std::min(round_up(ranges[0].last, kColumnPad), start)};
    }

    void context(const KVCache& cache, const Queries& queries, std::int64_t panel, const std::array<Range, 2>& ranges,
                 const Square& square, std::byte* out, std::ptrdiff_t stride) const {
        const int planes = probabilities_.planes();
        const std::int32_t rows = queries.count * planes;
        alignas(64) std::int32_t sums[kMaxTileRows * kPanelChannels] = {};
        for (std::size_t i = 0; i < 2; ++i)
            add_products(cache, queries, panel, columns_of(ranges, i), rows, square, sums);
        for (std::int32_t r = 0; planes == 2 && r < queries.count; ++r) {
            std::int32_t* sum = sums + 2 * r * kPanelChannels;
            for (int d = 0; d < kPanelChannels; ++d)
                sum[d] = wrapped(sum[kPanelChannels + d], 256u * static_cast<std::uint32_t>(sum[d]));
        }
        const std::int64_t dim = panel * kPanelChannels;
        const int dims = static_cast<int>(std::min<std::int64_t>(kPanelChannels, head_dim_ - dim));
        kernels_.rows->finish[out_type_]({sums, planes * kPanelChannels, queries.count, dims},
                                         out + dim * (out_type_ + 1), stride, out_factors_.from(0));
    }

    void add_products(const KVCache& cache, const Queries& queries, std::int64_t panel, const Range& range,
                      std::int32_t rows, const Square& square, std::int32_t* sums) const {
        if (range.size() <= 0) return;
        alignas(64) std::int32_t part[kMaxTileRows * kPanelChannels];
        const std::uint8_t* codes = square.code_row(queries.first, probabilities_.planes()) + range.first;
        const Panel values = cache.value_panel(queries.kv_head, panel, range.first, range.size());
        kernels_.tile8.run(values, {codes, square.stride, rows}, part);
        for (std::int32_t i = 0; i < rows * kPanelChannels; ++i)
            sums[i] = wrapped(sums[i], static_cast<std::uint32_t>(part[i]));
        if (const std::int32_t offset = kernels_.tile8.offset) {  // what the tile took from each probability
            const std::vector<std::uint8_t> ones(static_cast<std::size_t>(range.size()),
                                                 static_cast<std::uint8_t>(offset + 1));
            kernels_.tile8.run(values, {ones.data(), 0, 1}, part);
            for (std::int32_t i = 0; i < rows * kPanelChannels; ++i)
                sums[i] = wrapped(
                    sums[i], static_cast<std::uint32_t>(offset) * static_cast<std::uint32_t>(part[i % kPanelChannels]));
        }
    }

    AttentionOps ops_;
    const Kernels& kernels_;
    Place queries_, keys_, values_, to_;
    int score_type_, out_type_;
    std::int64_t num_heads_, head_dim_, num_kv_heads_;
    Visibility visibility_;
    Probabilities probabilities_;
    FactorTable score_factors_, out_factors_;
};

}  // namespace

std::unique_ptr<Step> make_attention(const AttentionOps& ops, const Site& site) {
    return std::make_unique<AttentionStep>(ops, site);
}

std::int32_t key_weight(const Kernels& kernels) { return kernels.tile8.offset - kCacheZeroPoint; }

}  // namespace mobilequant
