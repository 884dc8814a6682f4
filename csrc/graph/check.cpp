#include "graph/check.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "graph/codes.h"
#include "package/error.h"

namespace mobilequant {
namespace {

constexpr std::int64_t kInt32Max = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMaxContext = std::int64_t{1} << 22, kMaxHeadDim = std::int64_t{1} << 16;
constexpr std::int64_t kMaxNormChannels = std::int64_t{1} << 14, kMaxNormBias = std::int64_t{1} << 30;
constexpr std::int64_t kMaxEpsilon = std::int64_t{1} << 61, kMaxExponentSum = std::int64_t{1} << 15;
constexpr int kMinShift = 2, kMaxShift = 62;
constexpr std::int32_t kCacheZeroPoint = 128, kExp2One = 1 << 16;

// The limits are numbers of the same type.
template <class Value>
void within(const Constant& constant, std::int64_t low, std::int64_t high, const std::string& where) {
    const Value* values = constant.as<Value>();
    const std::size_t count = constant.size_bytes / sizeof(Value);
    const auto least = static_cast<Value>(low), most = static_cast<Value>(high);
    Value outside = 0;  // not a return at the first: so the compiler takes many at once
    for (std::size_t i = 0; i < count; ++i) outside |= static_cast<Value>((values[i] < least) | (values[i] > most));
    require(!outside, where + ": " + constant.name + " is out of bounds");
}

class Checker {
  public:
    explicit Checker(const Graph& graph)
        : graph_(graph), flow_(graph.tensors.size()), scores_of_(graph.tensors.size()) {}

    void operator()() {
        limits();
        for (const Op& op : graph_.ops) {
            where_ = "operation " + tensor(output_of(op)).name;
            tensor_limits(tensor(output_of(op)));
            std::visit([this](const auto& each) { check(each); }, op);
        }
        const Tensor& logits = tensor(graph_.output);
        where_ = "the output " + logits.name;
        rule(flow(graph_.output) == Flow::rows, "is no row of logits");
        rule(logits.channels == graph_.vocab_size && logits.dtype == DType::int16,
             "must be int16, one for each token id");
        for (std::size_t layer = 0; layer < graph_.caches.size(); ++layer) {
            where_ = "cache " + std::to_string(layer);
            rule(uses_[layer].scores == 1 && uses_[layer].contexts == 1, "must be used by one attention");
        }
    }

  private:
    enum class Flow : std::uint8_t { rows, scores, probabilities };
    struct Uses {
        int scores = 0, contexts = 0;
    };

    const Tensor& tensor(int number) const { return graph_.tensors[static_cast<std::size_t>(number)]; }
    Flow& flow(int number) { return flow_[static_cast<std::size_t>(number)]; }
    const AttentionScores*& scores_of(int number) { return scores_of_[static_cast<std::size_t>(number)]; }

    void rule(bool holds, const char* broken) const {
        if (!holds) throw PackageError(where_ + ": " + broken);
    }

    void shape(Array constant, std::initializer_list<std::int64_t> expected) const {
        if (constant && !std::ranges::equal(constant->shape, expected))
            throw PackageError(where_ + ": " + constant->name + " has another shape than it should");
    }

    void limits() {
        where_ = "graph.json";
        rule(graph_.vocab_size > 0 && graph_.vocab_size <= kInt32Max, "the vocabulary is empty or too large");
        rule(graph_.context > 0 && graph_.context <= kMaxContext, "the context is outside [1, 2^22]");
        rule(graph_.num_prefix >= 0 && graph_.num_prefix < graph_.context, "the prefix does not fit the context");
        rule(static_cast<std::int64_t>(graph_.prefix_tokens.size()) == graph_.num_prefix,
             "prefix_tokens and num_prefix differ");
        for (const std::int32_t token : graph_.prefix_tokens)
            rule(0 <= token && token < graph_.vocab_size, "a prefix token is outside the vocabulary");
        for (const Cache& cache : graph_.caches) {
            where_ = "the cache " + cache.keys->name;
            rule(cache.num_kv_heads > 0 && cache.head_dim > 0, "has no heads");
            shape(cache.keys, {graph_.num_prefix, cache.num_kv_heads, cache.head_dim});
            shape(cache.values, {graph_.num_prefix, cache.num_kv_heads, cache.head_dim});
        }
        uses_.resize(graph_.caches.size());
    }

    void tensor_limits(const Tensor& tensor) const {
        rule(tensor.dtype == DType::uint8 || tensor.dtype == DType::int16, "its tensor must be uint8 or int16");
        const bool byte = tensor.dtype == DType::uint8;
        const std::int32_t low = byte ? 0 : -32767, high = byte ? 255 : 32767;
        rule(low <= tensor.qmin && tensor.qmin <= tensor.zero_point && tensor.zero_point <= tensor.qmax &&
                 tensor.qmax <= high,
             "zero point and limits do not fit its type");
        rule(byte || tensor.zero_point == 0, "an int16 tensor must have zero point 0");
        rule(std::isfinite(tensor.scale) && tensor.scale > 0, "its scale is no positive number");
        rule(tensor.channels > 0 && tensor.channels <= kInt32Max, "it has no channels, or too many");
    }

    void rows(std::initializer_list<int> inputs) {
        for (const int input : inputs) rule(flow(input) == Flow::rows, "cannot read scores or probabilities");
    }

    void same_channels(int input, int output) const {
        rule(tensor(input).channels == tensor(output).channels, "input and output differ in their channels");
    }

    void codes(Array constant, std::int64_t num_rows, std::int64_t columns) const {
        shape(constant, {num_rows, columns});
        if (constant->dtype == DType::int8) within<std::int8_t>(*constant, -127, 127, where_);
    }

    void rescales(const RowRescale& rescale, std::int64_t num_rows, int largest_exponent = 0) const {
        shape(rescale.mantissa, {num_rows});
        shape(rescale.shift, {num_rows});
        within<std::int32_t>(*rescale.mantissa, 0, kInt32Max, where_);
        within<std::int8_t>(*rescale.shift, kMinShift, kMaxShift - largest_exponent, where_);
    }

    int exponents(Array constant, std::int64_t channels) const {
        if (!constant) return 0;
        shape(constant, {channels});
        within<std::uint8_t>(*constant, 0, kMaxShift, where_);
        const auto* values = constant->as<std::uint8_t>();
        return *std::max_element(values, values + channels);
    }

    void check(const Embedding& op) {
        const std::int64_t channels = tensor(op.output).channels;
        codes(op.codes, graph_.vocab_size, channels);
        rescales(op.rescale, graph_.vocab_size, exponents(op.exponent, channels));
        const bool any =
            op.position_codes || op.position_rescale.mantissa || op.position_rescale.shift || op.position_exponent;
        if (!any) return;
        rule(op.position_codes && op.position_rescale.mantissa && op.position_rescale.shift,
             "learned positions need codes, mantissa and shift");
        rule(!op.position_codes->shape.empty() && op.position_codes->shape[0] >= graph_.context,
             "there are fewer learned positions than the context has");
        const std::int64_t positions = op.position_codes->shape[0];
        codes(op.position_codes, positions, channels);
        rescales(op.position_rescale, positions, exponents(op.position_exponent, channels));
    }

    void check(const Linear& op) {
        rows({op.input});
        const std::int64_t outputs = tensor(op.output).channels, inputs = tensor(op.input).channels;
        codes(op.codes, outputs, inputs);
        rescales(op.rescale, outputs);
        shape(op.bias, {outputs});
        std::int64_t groups = 1;
        if (op.group_multiplier) {
            const auto& size = op.group_multiplier->shape;
            rule(size.size() == 2 && size[0] == outputs && size[1] > 0 && inputs % size[1] == 0,
                 "group_multiplier does not divide the codes");
            groups = size[1];
            within<std::uint8_t>(*op.group_multiplier, 1, 255, where_);
        }
        accumulators(op, outputs, inputs, groups);
    }

    // Σ|w|·largest + |zero_point·Σw| + |bias| of every row: no order of summation leaves it.
    void accumulators(const Linear& op, std::int64_t outputs, std::int64_t inputs, std::int64_t groups) const {
        const Tensor& source = tensor(op.input);
        const std::int64_t largest = std::max<std::int64_t>(std::abs(source.qmin), source.qmax);
        const std::int64_t group = inputs / groups;
        std::vector<std::int8_t> codes(static_cast<std::size_t>(inputs));
        for (std::int64_t row = 0; row < outputs; ++row) {
            read_row(*op.codes, row, codes.data());
            CodeSums total{0, 0};
            for (std::int64_t g = 0; g < groups; ++g) {
                const std::int64_t factor =
                    op.group_multiplier ? op.group_multiplier->as<std::uint8_t>()[row * groups + g] : 1;
                const CodeSums part = sum_codes(codes.data() + g * group, group);
                total.sum += part.sum * factor, total.magnitude += part.magnitude * factor;
            }
            const std::int64_t bias = op.bias ? std::abs(std::int64_t{op.bias->as<std::int32_t>()[row]}) : 0;
            const std::int64_t bound = total.magnitude * largest + std::abs(total.sum * source.zero_point) + bias;
            rule(bound <= kInt32Max, "an input could drive an accumulator beyond int32");
        }
    }

    void check(const Norm& op) {
        rows({op.input});
        same_channels(op.input, op.output);
        rule(1 <= op.group && op.group <= kMaxNormChannels && tensor(op.output).channels % op.group == 0,
             "its groups do not fit the channels");
        rule(op.epsilon < kMaxEpsilon, "epsilon is 2^61 or more");
        shape(op.gain, {op.group});
        shape(op.bias, {op.group});
        if (op.bias) within<std::int32_t>(*op.bias, -kMaxNormBias, kMaxNormBias, where_);
        // compared by division: group · 2^62 has no place in 64 bits
        rule(op.group <= kMaxExponentSum >> exponents(op.exponent, op.group), "its exponents are too large");
    }

    void check(const Rope& op) {
        rows({op.input});
        same_channels(op.input, op.output);
        rule(op.head_dim > 0 && tensor(op.output).channels % op.head_dim == 0, "its heads do not divide the channels");
        const auto& size = op.cos->shape;
        rule(size.size() == 2 && size[0] >= graph_.context && size[1] > 0 && size[1] <= op.head_dim / 2,
             "cos does not cover the context or the heads");
        shape(op.sin, {size[0], size[1]});
    }

    void cached_heads(std::int64_t layer, std::int64_t heads, std::int64_t head_dim, int second) {
        rule(layer < static_cast<std::int64_t>(graph_.caches.size()), "there is no cache of its layer");
        const Cache& cache = graph_.caches[static_cast<std::size_t>(layer)];
        rule(head_dim == cache.head_dim && head_dim <= kMaxHeadDim && heads > 0 && heads <= kInt32Max &&
                 heads % cache.num_kv_heads == 0,
             "its heads do not fit the cache");
        rule(tensor(second).channels == cache.num_kv_heads * head_dim, "what goes into the cache has other channels");
        centred(second);
    }

    void centred(int input) {
        rows({input});
        const Tensor& found = tensor(input);
        rule(found.dtype == DType::uint8 && found.zero_point == kCacheZeroPoint,
             "operands must be uint8 with zero point 128");
    }

    void check(const AttentionScores& op) {
        cached_heads(op.layer, op.num_heads, op.head_dim, op.keys);
        rule(tensor(op.queries).channels == op.num_heads * op.head_dim, "its queries have other channels");
        centred(op.queries);
        rule(tensor(op.output).channels == op.num_heads, "its scores have other channels");
        flow(op.output) = Flow::scores;
        scores_of(op.output) = &op;
        ++uses_[static_cast<std::size_t>(op.layer)].scores;
    }

    void check(const Softmax& op) {
        rule(flow(op.input) == Flow::scores, "must read scores");
        same_channels(op.input, op.output);
        const bool byte = tensor(op.output).dtype == DType::uint8;
        rule(op.one == (byte ? 256 : 32768) && tensor(op.output).zero_point == 0,
             "probabilities have another step or zero");
        shape(op.table, {256});
        within<std::int32_t>(*op.table, 0, kExp2One, where_);
        rule(op.table->as<std::int32_t>()[0] == kExp2One, "its table must begin with 2^16");
        rule(scores_of(op.input)->window == op.window, "its window is not that of the scores");
        flow(op.output) = Flow::probabilities;
        scores_of(op.output) = scores_of(op.input);
    }

    void check(const AttentionContext& op) {
        rule(flow(op.probabilities) == Flow::probabilities, "must read probabilities");
        cached_heads(op.layer, op.num_heads, op.head_dim, op.values);
        rule(tensor(op.probabilities).channels == op.num_heads, "its probabilities have other channels");
        rule(tensor(op.output).channels == op.num_heads * op.head_dim, "its output has other channels");
        const AttentionScores& scores = *scores_of(op.probabilities);
        rule(scores.layer == op.layer && scores.num_heads == op.num_heads,
             "its layer or heads are not those of the scores");
        ++uses_[static_cast<std::size_t>(op.layer)].contexts;
    }

    void check(const Table& op) {
        rule(flow(op.input) != Flow::probabilities, "cannot read probabilities");
        same_channels(op.input, op.output);
        const Tensor &source = tensor(op.input), &target = tensor(op.output);
        if (source.dtype == DType::uint8) {
            shape(op.table, {256});
            rule(op.table->dtype == target.dtype, "its table is of another type than its output");
            if (target.dtype == DType::uint8)
                within<std::uint8_t>(*op.table, target.qmin, target.qmax, where_);
            else
                within<std::int16_t>(*op.table, target.qmin, target.qmax, where_);
        } else {
            shape(op.table, {513});
            rule(op.table->dtype == DType::int16, "its table must be int16");
            const int factor = target.dtype == DType::uint8 ? 128 : 1;
            within<std::int16_t>(*op.table, target.qmin * factor, target.qmax * factor, where_);
        }
        flow(op.output) = flow(op.input);
        scores_of(op.output) = scores_of(op.input);
    }

    void check(const Multiply& op) {
        rows({op.a, op.b});
        same_channels(op.a, op.output);
        same_channels(op.b, op.output);
    }

    void check(const Add& op) {
        rows({op.a, op.b});
        same_channels(op.a, op.output);
        same_channels(op.b, op.output);
        rule(largest_term(op.a, op.rescale_a) + largest_term(op.b, op.rescale_b) <= kInt32Max,
             "the sum of its operands could leave int32");
    }

    std::int64_t largest_term(int input, const Rescale& rescale) const {
        const Tensor& source = tensor(input);
        const std::int64_t largest = std::max(source.qmax - source.zero_point, source.zero_point - source.qmin);
        return (largest * rescale.mantissa >> rescale.shift) + 1;
    }

    const Graph& graph_;
    std::string where_;
    std::vector<Flow> flow_;
    std::vector<const AttentionScores*> scores_of_;
    std::vector<Uses> uses_;
};

}  // namespace

void check_graph(const Graph& graph) { Checker{graph}(); }

}  // namespace mobilequant
