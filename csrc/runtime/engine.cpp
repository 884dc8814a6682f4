#include "runtime/engine.h"

#include <algorithm>

#include "package/error.h"
#include "runtime/steps/attention.h"

namespace mobilequant {
namespace {

constexpr std::int64_t kChunk = 128;  // rows at once: what a layer passes on stays in the second cache

std::int64_t capacity_of(const Graph& graph, std::int64_t wanted) {
    return wanted > 0 ? std::min(wanted, graph.context - graph.num_prefix) + graph.num_prefix : graph.context;
}

template <class Bytes>
std::size_t most(const Plan& plan, Bytes bytes) {
    std::size_t found = 0;
    for (const Planned& planned : plan.steps) found = std::max(found, bytes(*planned.step));
    return found;
}

}  // namespace

Workspace::Workspace(std::size_t shared_bytes, std::size_t row_bytes, std::int64_t max_rows, int members,
                     std::size_t common_bytes, std::size_t scratch_bytes)
    : max_rows_(max_rows),
      shared_(shared_bytes * static_cast<std::size_t>(max_rows)),
      rows_(row_bytes * static_cast<std::size_t>(max_rows)),
      common_(common_bytes) {
    for (int member = 0; member < members; ++member) own_.emplace_back(row_bytes), scratch_.emplace_back(scratch_bytes);
}

Engine::Engine(const std::filesystem::path& folder, const EngineOptions& options)
    : Engine(Package::open(folder), options) {}

Engine::Engine(Package package, const EngineOptions& options)
    : package_(std::move(package)),
      kernels_(choose_kernels(options.kernels)),
      team_(options.threads),
      keep_(options.keep),
      drafts_(draft_steps(graph(), keep_)),
      matrices_(walks_of(graph(), drafts_), package_.weights(), team_),
      plan_(make_plan(graph(), drafts_, keep_, kernels_, matrices_)) {}

// Rows of an embedding are read where they lie in the file, with pages around them that nobody wanted.
void Engine::release_embedding() const {
    for (const Op& op : graph().ops)
        if (const auto* embedding = std::get_if<Embedding>(&op); embedding && !matrices_.find(embedding->codes))
            package_.weights().release({embedding->codes->data, embedding->codes->size_bytes});
}

Session::Session(Engine& engine, std::int64_t capacity)
    : engine_(engine),
      position_(engine.graph().num_prefix),
      capacity_(capacity_of(engine.graph(), capacity)),
      workspace_(engine.plan_.shared_bytes, engine.plan_.row_bytes, engine.keep_ == Keep::all ? capacity_ : kChunk,
                 engine.team_.size(),
                 most(engine.plan_, [&](const Step& step) { return step.common_bytes(capacity_); }),
                 most(engine.plan_, [&](const Step& step) { return step.scratch_bytes(capacity_); })) {
    std::size_t total = 0;
    for (const Cache& cache : engine.graph().caches) total += KVCache::bytes(cache, capacity_);
    cache_memory_ = AlignedBytes(total);
    std::byte* next = cache_memory_.data();
    for (const Cache& cache : engine.graph().caches) {
        caches_.emplace_back(cache, engine.graph().num_prefix, capacity_, key_weight(engine.kernels_), next);
        next += KVCache::bytes(cache, capacity_);
    }
}

void Session::require_valid(std::span<const std::int32_t> tokens) const {
    if (tokens.empty()) throw UsageError("no token was given");
    for (const std::int32_t token : tokens)
        if (token < 0 || token >= engine_.graph().vocab_size)
            throw UsageError("token " + std::to_string(token) + " is outside the vocabulary of " +
                             std::to_string(engine_.graph().vocab_size));
    if (static_cast<std::int64_t>(tokens.size()) > room())
        throw UsageError("the context has room for " + std::to_string(room()) + " more tokens, not " +
                         std::to_string(tokens.size()));
}

void Session::run(std::span<const std::int32_t> tokens, std::vector<std::int16_t>& logits, bool only_last) {
    require_valid(tokens);
    const auto count = static_cast<std::int64_t>(tokens.size());
    const auto vocab = static_cast<std::size_t>(engine_.graph().vocab_size);
    const Place& place = engine_.plan_.places[static_cast<std::size_t>(engine_.graph().output)];
    logits.clear();
    for (std::int64_t done = 0; done < count; done += kChunk) {
        const auto part =
            tokens.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(std::min(kChunk, count - done)));
        const auto rows = static_cast<std::int64_t>(part.size());
        run_chunk(part, only_last, nullptr);
        for (std::int64_t row = only_last ? rows - 1 : 0; row < rows; ++row) {
            if (only_last && done + rows < count) continue;
            const auto* found = reinterpret_cast<const std::int16_t*>(workspace_.row(place, row, 0, rows == 1));
            logits.insert(logits.end(), found, found + vocab);
        }
    }
}

// What the caches hold behind the position is seen by no later row before it is written anew.
void Session::rewind(std::int64_t position) {
    const std::int64_t first = engine_.graph().num_prefix;
    if (position < first || position > position_)
        throw UsageError("a sequence that goes from " + std::to_string(first) + " to " + std::to_string(position_) +
                         " cannot go back to " + std::to_string(position));
    position_ = position;
}

void Session::run_chunk(std::span<const std::int32_t> tokens, bool only_last, Trace* trace) {
    const Call all{tokens.data(), static_cast<std::int64_t>(tokens.size()), position_, workspace_, caches_, trace};
    const Call last = all.last_row();
    const Plan& plan = engine_.plan_;
    // noexcept: a member that left would let the others wait for ever
    engine_.team_.run([&](const Member& member) noexcept {
        for (std::size_t s = 0; s < plan.steps.size(); ++s) {
            if (all.single() ? plan.steps[s].meet_single : plan.steps[s].meet_many) member.barrier();
            plan.steps[s].step->run(only_last && s >= plan.last_attention ? last : all, member);
        }
    });
    position_ += all.rows;
    engine_.release_embedding();
}

std::vector<TracedTensor> Session::trace(std::span<const std::int32_t> tokens) {
    if (engine_.keep_ != Keep::all) throw UsageError("only an engine that keeps all tensors can be traced");
    require_valid(tokens);
    const Graph& graph = engine_.graph();
    const auto rows = static_cast<std::int64_t>(tokens.size());
    Trace squares;
    std::vector<bool> square(graph.tensors.size());
    for (const Op& op : graph.ops) {
        const auto number = static_cast<std::size_t>(output_of(op));
        const auto* table = std::get_if<Table>(&op);
        square[number] = std::holds_alternative<AttentionScores>(op) || std::holds_alternative<Softmax>(op) ||
                         (table && square[static_cast<std::size_t>(table->input)]);
        const Tensor& tensor = graph.tensors[number];
        if (square[number]) squares.expect(output_of(op), tensor.channels, rows, position_ + rows, tensor.code_bytes());
    }
    run_chunk(tokens, false, &squares);
    std::vector<TracedTensor> traced;
    for (const Op& op : graph.ops)
        traced.push_back(squares.has(output_of(op)) ? squares.take(output_of(op)) : rows_of(output_of(op), rows));
    return traced;
}

TracedTensor Session::rows_of(int tensor, std::int64_t rows) {
    const Tensor& about = engine_.graph().tensors[static_cast<std::size_t>(tensor)];
    const std::size_t bytes = static_cast<std::size_t>(about.channels) * about.code_bytes();
    TracedTensor found{tensor, {rows, about.channels}, {}};
    for (std::int64_t row = 0; row < rows; ++row) {
        const std::byte* codes =
            workspace_.row(engine_.plan_.places[static_cast<std::size_t>(tensor)], row, 0, rows == 1);
        found.codes.insert(found.codes.end(), codes, codes + bytes);
    }
    return found;
}

}  // namespace mobilequant
