// A model that runs, and a sequence that it has read.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "package/package.h"
#include "runtime/kv_cache.h"
#include "runtime/matrix_store.h"
#include "runtime/plan.h"
#include "runtime/team.h"
#include "runtime/trace.h"

namespace mobilequant {

struct EngineOptions {
    int threads = 1;
    std::string_view kernels = "";  // the fastest, unless named
    Keep keep = Keep::output;       // all: for Session::trace
};

class Engine {
  public:
    // Throws PackageError and UsageError.
    Engine(const std::filesystem::path& folder, const EngineOptions& options);
    Engine(Package package, const EngineOptions& options);

    const Package& package() const { return package_; }
    const Graph& graph() const { return package_.graph(); }
    std::optional<std::int32_t> leading_token() const { return package_.leading_token(); }
    double logits_scale() const { return graph().tensors[static_cast<std::size_t>(graph().output)].scale; }
    const Kernels& kernels() const { return kernels_; }

  private:
    friend class Session;
    void release_embedding() const;

    Package package_;
    const Kernels& kernels_;
    Team team_;
    Keep keep_;
    std::vector<Draft> drafts_;
    MatrixStore matrices_;
    Plan plan_;
};

// Not to be used by two threads at once; nor are two sessions of one engine.
class Session {
  public:
    // Room for `capacity` positions behind the prefix; 0 stands for the whole context.
    explicit Session(Engine& engine, std::int64_t capacity = 0);

    // Read tokens behind what was read before; logits (T, V) int16 of all of them, or only (1, V) of the last.
    // Throws UsageError: a token outside the vocabulary, no token, or no room left.
    void run(std::span<const std::int32_t> tokens, std::vector<std::int16_t>& logits, bool only_last);

    // The same, but gives the codes of every tensor, in running order.
    // Throws UsageError also where the engine does not keep all tensors.
    std::vector<TracedTensor> trace(std::span<const std::int32_t> tokens);

    // Forget what stands at `position` and behind it; what is read next takes its place.
    // Throws UsageError: nothing was read there yet, or it belongs to the prefix.
    void rewind(std::int64_t position);

    std::int64_t position() const { return position_; }
    std::int64_t room() const { return capacity_ - position_; }  // tokens that can still be read

  private:
    void require_valid(std::span<const std::int32_t> tokens) const;
    void run_chunk(std::span<const std::int32_t> tokens, bool only_last, Trace* trace);
    TracedTensor rows_of(int tensor, std::int64_t rows);

    Engine& engine_;
    std::int64_t position_, capacity_;
    Workspace workspace_;
    AlignedBytes cache_memory_;
    std::vector<KVCache> caches_;
};

}  // namespace mobilequant
