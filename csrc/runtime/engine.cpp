#include "runtime/engine.h"

#include <algorithm>

#include "package/error.h"

namespace mobilequant {
namespace {

constexpr std::int64_t kChunk = 128;  // rows at once: what a layer passes on stays in the second cache

}  // namespace

Workspace::Workspace(std::size_t shared_bytes, std::size_t row_bytes, std::int64_t max_rows, int members)
    : max_rows_(max_rows),
      shared_(shared_bytes * static_cast<std::size_t>(max_rows)),
      rows_(row_bytes * static_cast<std::size_t>(max_rows)) {
    for (int member = 0; member < members; ++member) own_.emplace_back(row_bytes);
}

Engine::Engine(const std::filesystem::path& folder, const EngineOptions& options) : Engine(Package::open(folder), options) {}

Engine::Engine(Package package, const EngineOptions& options)
    : package_(std::move(package)),
      kernels_(choose_kernels(options.kernels)),
      plan_(make_plan(package_.graph(), kernels_)),
      team_(options.threads) {}

Session::Session(Engine& engine, std::int64_t capacity)
    : engine_(engine),
      workspace_(engine.plan_.shared_bytes, engine.plan_.row_bytes, kChunk, engine.team_.size()),
      position_(engine.graph().num_prefix),
      capacity_(capacity > 0 ? std::min(capacity, engine.graph().context - position_) + position_ : engine.graph().context) {
    for (const Cache& cache : engine.graph().caches) caches_.emplace_back(cache, engine.graph().num_prefix, capacity_);
}

void Session::run(std::span<const std::int32_t> tokens, std::vector<std::int16_t>& logits, bool only_last) {
    if (tokens.empty()) throw UsageError("no token was given");
    for (const std::int32_t token : tokens)
        if (token < 0 || token >= engine_.graph().vocab_size)
            throw UsageError("token " + std::to_string(token) + " is outside the vocabulary");
    const auto count = static_cast<std::int64_t>(tokens.size());
    if (count > capacity_ - position_)
        throw UsageError("the context has room for " + std::to_string(capacity_ - position_) + " more tokens, not " +
                         std::to_string(count));
    const auto vocab = static_cast<std::size_t>(engine_.graph().vocab_size);
    logits.clear();
    for (std::int64_t done = 0; done < count; done += kChunk) {
        const auto part = tokens.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(std::min(kChunk, count - done)));
        run_chunk(part);
        const auto rows = static_cast<std::int64_t>(part.size());
        for (std::int64_t row = only_last ? rows - 1 : 0; row < rows; ++row) {
            if (only_last && done + rows < count) continue;
            const auto* found = reinterpret_cast<const std::int16_t*>(workspace_.row(engine_.plan_.logits, row, 0, rows == 1));
            logits.insert(logits.end(), found, found + vocab);
        }
        position_ += rows;
    }
}

void Session::run_chunk(std::span<const std::int32_t> tokens) {
    const Call call{tokens.data(), static_cast<std::int64_t>(tokens.size()), position_, workspace_, caches_};
    // noexcept: a member that left would let the others wait for ever
    engine_.team_.run([&](const Member& member) noexcept {
        for (const Planned& planned : engine_.plan_.steps) {
            if (call.single() ? planned.meet_single : planned.meet_many) member.barrier();
            planned.step->run(call, member);
        }
    });
}

}  // namespace mobilequant
