// A model that runs, and a sequence that it has read.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "package/package.h"
#include "runtime/kv_cache.h"
#include "runtime/plan.h"
#include "runtime/team.h"

namespace mobilequant {

struct EngineOptions {
    int threads = 1;
    std::string_view kernels = "";  // the fastest, unless named
};

class Engine {
  public:
    // Throws PackageError and UsageError.
    Engine(const std::filesystem::path& folder, const EngineOptions& options);

    const Graph& graph() const { return package_.graph(); }
    const Kernels& kernels() const { return kernels_; }
    const Tensor& output() const { return graph().tensors[static_cast<std::size_t>(graph().output)]; }  // the logits
    std::optional<std::int32_t> leading_token() const { return package_.leading_token(); }

  private:
    friend class Session;
    Package package_;
    const Kernels& kernels_;
    Plan plan_;
    Team team_;
};

class Session {
  public:
    // Room for `capacity` positions behind the prefix; 0 stands for the whole context.
    explicit Session(Engine& engine, std::int64_t capacity = 0);

    // Read tokens behind what was read before; logits (T, V) int16 of all of them, or only (1, V) of the last.
    // Throws UsageError: a token outside the vocabulary, no token, or no room left.
    void run(std::span<const std::int32_t> tokens, std::vector<std::int16_t>& logits, bool only_last);

    std::int64_t position() const { return position_; }
    std::int64_t room() const { return capacity_ - position_; }

  private:
    void run_chunk(std::span<const std::int32_t> tokens);

    Engine& engine_;
    std::vector<KVCache> caches_;
    Workspace workspace_;
    std::int64_t position_, capacity_;
};

}  // namespace mobilequant
