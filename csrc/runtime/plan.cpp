#include "runtime/plan.h"

#include <algorithm>
#include <map>
#include <set>

#include "package/error.h"
#include "runtime/steps/attention.h"
#include "runtime/steps/channels.h"
#include "runtime/steps/rowwise.h"

namespace mobilequant {
namespace {

constexpr std::size_t kAlign = 64;

std::vector<int> inputs_of(const Op& op) {
    struct Visitor {
        std::vector<int> operator()(const Embedding&) { return {}; }
        std::vector<int> operator()(const Linear& op) { return {op.input}; }
        std::vector<int> operator()(const Norm& op) { return {op.input}; }
        std::vector<int> operator()(const Rope& op) { return {op.input}; }
        std::vector<int> operator()(const AttentionScores& op) { return {op.queries, op.keys}; }
        std::vector<int> operator()(const Softmax& op) { return {op.input}; }
        std::vector<int> operator()(const AttentionContext& op) { return {op.probabilities, op.values}; }
        std::vector<int> operator()(const Table& op) { return {op.input}; }
        std::vector<int> operator()(const Multiply& op) { return {op.a, op.b}; }
        std::vector<int> operator()(const Add& op) { return {op.a, op.b}; }
    };
    return std::visit(Visitor{}, op);
}

// The operations of one attention become one step at the place of the last.
std::vector<Draft> draft_attention(const Graph& graph) {
    std::vector<Draft> drafts;
    std::map<int, std::vector<std::size_t>> inside;  // by tensor: scores and probabilities on their way
    for (std::size_t number = 0; number < graph.ops.size(); ++number) {
        const Op& op = graph.ops[number];
        const int output = output_of(op);
        std::vector<int> inputs = inputs_of(op);
        if (std::holds_alternative<AttentionScores>(op)) {
            inside[output] = {number};
        } else if (!inputs.empty() && inside.contains(inputs.front())) {
            std::vector<std::size_t> ops = inside[inputs.front()];
            ops.push_back(number);
            if (!std::holds_alternative<AttentionContext>(op)) {
                inside[output] = ops;
                continue;
            }
            const auto& scores = std::get<AttentionScores>(graph.ops[ops.front()]);
            drafts.push_back({{scores.queries, scores.keys, inputs.back()}, output, false, ops});
        } else {
            drafts.push_back({inputs, output, !std::holds_alternative<Linear>(op), {number}});
        }
    }
    return drafts;
}

// An activation function behind a matrix, and the product of the two matrices of a gated MLP, are done with the
// channels that a member has just computed. What lies between them must have no other reader.
class Fusion {
  public:
    Fusion(const Graph& graph, std::vector<Draft> drafts)
        : graph_(graph), drafts_(std::move(drafts)), uses_(graph.tensors.size()) {
        for (std::size_t s = 0; s < drafts_.size(); ++s) {
            for (const int input : drafts_[s].inputs) ++uses_[static_cast<std::size_t>(input)];
            by_output_[drafts_[s].output] = s;
        }
        ++uses_[static_cast<std::size_t>(graph.output)];
    }

    std::vector<Draft> operator()() {
        for (std::size_t s = 0; s < drafts_.size(); ++s) {
            if (as<Table>(s) && linear_alone(drafts_[s].inputs[0])) merge(s);
            if (as<Multiply>(s) && gated(drafts_[s].inputs)) merge(s);
        }
        std::erase_if(drafts_, [](const Draft& draft) { return draft.ops.empty(); });
        return std::move(drafts_);
    }

  private:
    template <class Kind>
    bool as(std::size_t s) const {
        return drafts_[s].ops.size() == 1 && std::holds_alternative<Kind>(graph_.ops[drafts_[s].ops.front()]);
    }
    bool alone(int tensor) const { return uses_[static_cast<std::size_t>(tensor)] == 1; }
    bool linear_alone(int tensor) const { return alone(tensor) && as<Linear>(by_output_.at(tensor)); }
    bool activation_alone(int tensor) const {
        const Draft& draft = drafts_[by_output_.at(tensor)];
        return alone(tensor) && draft.ops.size() == 2 && std::holds_alternative<Table>(graph_.ops[draft.ops.back()]);
    }
    bool gated(const std::vector<int>& inputs) const {
        return (activation_alone(inputs[0]) && linear_alone(inputs[1])) ||
               (linear_alone(inputs[0]) && activation_alone(inputs[1]));
    }

    // The steps that compute the inputs of this one become part of it.
    void merge(std::size_t s) {
        Draft merged{{}, drafts_[s].output, false, {}};
        for (const int input : drafts_[s].inputs) {
            Draft& part = drafts_[by_output_.at(input)];
            merged.inputs.insert(merged.inputs.end(), part.inputs.begin(), part.inputs.end());
            merged.ops.insert(merged.ops.end(), part.ops.begin(), part.ops.end());
            part.ops.clear();
        }
        merged.ops.push_back(drafts_[s].ops.front());
        drafts_[s] = merged;
    }

    const Graph& graph_;
    std::vector<Draft> drafts_;
    std::vector<int> uses_;
    std::map<int, std::size_t> by_output_;
};

// Slots of one pool: a tensor takes the smallest free one that is large enough. Rows lie as far apart as the slot is
// long, so that row r of every tensor in it lies where row r of the others lay: a member that computes rows meets only
// its own.
class Pool {
  public:
    Place take(std::size_t bytes, bool shared) {
        auto found = free_.lower_bound(bytes);
        if (found == free_.end()) {
            const std::size_t offset = size_;
            size_ += bytes;
            sizes_[offset] = bytes;
            return {shared, offset, bytes};
        }
        const auto [size, offset] = *found;
        free_.erase(found);
        return {shared, offset, size};
    }
    void give_back(std::size_t offset) { free_.emplace(sizes_.at(offset), offset); }
    std::size_t size() const { return size_; }

  private:
    std::multimap<std::size_t, std::size_t> free_;  // size → offset
    std::map<std::size_t, std::size_t> sizes_;
    std::size_t size_ = 0;
};

std::vector<Place> place_tensors(const Graph& graph, const std::vector<Draft>& drafts, Keep keep, Pool& shared,
                                 Pool& rows) {
    std::vector<Place> places(graph.tensors.size(), Place{});
    std::vector<std::size_t> last_use(graph.tensors.size(), 0);
    for (std::size_t s = 0; s < drafts.size(); ++s)
        for (const int input : drafts[s].inputs) last_use[static_cast<std::size_t>(input)] = s;
    last_use[static_cast<std::size_t>(graph.output)] = drafts.size();
    for (std::size_t s = 0; s < drafts.size(); ++s) {
        const auto output = static_cast<std::size_t>(drafts[s].output);
        const Tensor& tensor = graph.tensors[output];
        const std::size_t bytes = static_cast<std::size_t>(tensor.channels) * tensor.code_bytes();
        // A tile reads the codes of a last head up to a whole group of columns.
        const std::size_t whole = (bytes + kColumnPad - 1 + kAlign - 1) / kAlign * kAlign;
        Pool& pool = drafts[s].by_rows ? rows : shared;
        places[output] = pool.take(whole, !drafts[s].by_rows);
        if (keep == Keep::all) continue;
        std::set<int> done(drafts[s].inputs.begin(), drafts[s].inputs.end());
        if (last_use[output] == 0) done.insert(drafts[s].output);  // nobody reads it
        for (const int tensor_number : done) {
            const auto number = static_cast<std::size_t>(tensor_number);
            if (last_use[number] <= s) (places[number].shared ? shared : rows).give_back(places[number].offset);
        }
    }
    return places;
}

// Which slots were touched since the members last met, and how; whether a step may begin without meeting.
class Meeting {
  public:
    explicit Meeting(bool single) : single_(single) {}

    bool needed(const Draft& draft, const std::vector<Place>& places) {
        bool meet = false;
        for (const int input : draft.inputs)
            meet |= conflicts(places[static_cast<std::size_t>(input)], draft.by_rows, written_);
        const Place& output = places[static_cast<std::size_t>(draft.output)];
        meet |= conflicts(output, draft.by_rows, written_) || conflicts(output, draft.by_rows, read_);
        if (meet) written_.clear(), read_.clear();
        for (const int input : draft.inputs) touch(places[static_cast<std::size_t>(input)], draft.by_rows, read_);
        touch(output, draft.by_rows, written_);
        return meet;
    }

  private:
    struct Touch {
        bool rows = false, parts = false;
    };
    using Touches = std::map<std::pair<bool, std::size_t>, Touch>;

    // Rows of a slot that rows touched are a member's own; all other mixtures need a meeting. In a call of a single
    // row, slots that are not shared are a member's own in any case.
    bool conflicts(const Place& place, bool by_rows, const Touches& touches) const {
        if (single_ && !place.shared) return false;
        const auto found = touches.find({place.shared, place.offset});
        if (found == touches.end()) return false;
        return found->second.parts || (found->second.rows && !by_rows);
    }

    static void touch(const Place& place, bool by_rows, Touches& touches) {
        Touch& found = touches[{place.shared, place.offset}];
        (by_rows ? found.rows : found.parts) = true;
    }

    bool single_;
    Touches written_, read_;
};

class Planner {
  public:
    Planner(const Graph& graph, const Kernels& kernels, const MatrixStore& matrices, const std::vector<Place>& places)
        : site_{graph, places, kernels}, matrices_(matrices) {}

    std::unique_ptr<Step> make(const Draft& draft) {
        const Op& first = site_.graph.ops[draft.ops.front()];
        if (std::holds_alternative<AttentionScores>(first)) return attention(draft);
        if (std::holds_alternative<Linear>(first)) return channels(draft);
        return std::visit([this](const auto& op) { return make_one(op); }, first);
    }

  private:
    std::unique_ptr<Step> make_one(const Embedding& op) { return make_embedding(op, site_, matrices_.find(op.codes)); }
    std::unique_ptr<Step> make_one(const Norm& op) { return make_norm(op, site_); }
    std::unique_ptr<Step> make_one(const Rope& op) { return make_rope(op, site_); }
    std::unique_ptr<Step> make_one(const Table& op) { return make_table(op, site_); }
    std::unique_ptr<Step> make_one(const Multiply& op) { return make_multiply(op, site_); }
    std::unique_ptr<Step> make_one(const Add& op) { return make_add(op, site_); }
    template <class Other>
    std::unique_ptr<Step> make_one(const Other&) {
        throw PackageError("an operation stands alone that cannot");
    }

    std::unique_ptr<Step> channels(const Draft& draft) {
        ChannelOps ops;
        for (const std::size_t number : draft.ops) {
            const Op& op = site_.graph.ops[number];
            if (const auto* linear = std::get_if<Linear>(&op)) {
                ops.emplace_back(linear);
            } else if (const auto* table = std::get_if<Table>(&op)) {
                ops.emplace_back(table);
            } else {
                ops.emplace_back(&std::get<Multiply>(op));
            }
        }
        return make_channels(ops, site_, matrices_);
    }

    std::unique_ptr<Step> attention(const Draft& draft) {
        AttentionOps ops{std::get<AttentionScores>(site_.graph.ops[draft.ops.front()]), {}, {}, {}};
        for (const std::size_t number : draft.ops) {
            const Op& op = site_.graph.ops[number];
            if (const auto* table = std::get_if<Table>(&op)) {
                require(!ops.table, "more than one table between scores and softmax");
                ops.table = *table;
            }
            if (const auto* softmax = std::get_if<Softmax>(&op)) ops.softmax = *softmax;
            if (const auto* context = std::get_if<AttentionContext>(&op)) ops.context = *context;
        }
        return make_attention(ops, site_);
    }

    Site site_;
    const MatrixStore& matrices_;
};

std::size_t last_attention(const Graph& graph, const std::vector<Draft>& drafts) {
    std::size_t last = 0;
    for (std::size_t s = 0; s < drafts.size(); ++s)
        if (std::holds_alternative<AttentionScores>(graph.ops[drafts[s].ops.front()])) last = s;
    return last;
}

}  // namespace

std::vector<Draft> draft_steps(const Graph& graph, Keep keep) {
    std::vector<Draft> drafts = draft_attention(graph);
    return keep == Keep::all ? drafts : Fusion(graph, std::move(drafts))();
}

std::vector<Walk> walks_of(const Graph& graph, const std::vector<Draft>& drafts) {
    std::vector<Walk> walks;
    for (const Draft& draft : drafts) {
        Walk walk;
        for (const std::size_t number : draft.ops) {
            if (const auto* linear = std::get_if<Linear>(&graph.ops[number])) walk.push_back(linear);
        }
        if (!walk.empty()) walks.push_back(std::move(walk));
    }
    return walks;
}

Plan make_plan(const Graph& graph, const std::vector<Draft>& drafts, Keep keep, const Kernels& kernels,
               const MatrixStore& matrices) {
    Pool shared, rows;
    std::vector<Place> places = place_tensors(graph, drafts, keep, shared, rows);
    Plan plan{{}, std::move(places), shared.size(), rows.size(), last_attention(graph, drafts)};
    Planner planner(graph, kernels, matrices, plan.places);
    Meeting many(false), single(true);
    for (const Draft& draft : drafts)
        plan.steps.push_back({planner.make(draft), many.needed(draft, plan.places), single.needed(draft, plan.places)});
    return plan;
}

}  // namespace mobilequant
