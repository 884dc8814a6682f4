#include "fuzz/target.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "package/error.h"
#include "runtime/engine.h"
#include "runtime/sampler.h"

namespace mobilequant::fuzz {
namespace {

constexpr char kManifest[] = R"({"format": "mobilequant-package", "version": 1, "files": {}})";
constexpr std::size_t kLengthBytes = 4;

// A copy of exactly that size on the heap: a sanitizer sees the first byte behind it.
class Copy {
  public:
    explicit Copy(const std::string& text) : size_(text.size()), data_(new std::byte[text.size()]) {
        std::memcpy(data_.get(), text.data(), size_);
    }
    std::span<const std::byte> bytes() const { return {data_.get(), size_}; }

  private:
    std::size_t size_;
    std::unique_ptr<std::byte[]> data_;
};

std::vector<std::int16_t> logits_of(const PackageBytes& files, std::string_view kernels) {
    Engine engine(Package::read(files, Hashes::ignored), {1, kernels});
    const Graph& graph = engine.graph();
    Session session(engine, 4);
    const auto last = static_cast<std::int32_t>(graph.vocab_size - 1);
    const std::vector<std::int32_t> tokens = {0, last, last / 2};
    std::vector<std::int16_t> all, some;
    const std::int64_t both = std::min<std::int64_t>(2, session.room());
    session.run(std::span(tokens).first(static_cast<std::size_t>(both)), all, false);
    if (session.room() > 0) {
        session.run(std::span(tokens).last(1), some, true);
        all.insert(all.end(), some.begin(), some.end());
    }
    Sampling sampling;
    sampling.temperature = 0.8;
    Sampler(sampling, engine.logits_scale())
        .choose(std::span(all).first(static_cast<std::size_t>(graph.vocab_size)), tokens);
    return all;
}

}  // namespace

std::string join(const Files& files) {
    const auto length = static_cast<std::uint32_t>(files.graph.size());
    std::string bytes(kLengthBytes, '\0');
    std::memcpy(bytes.data(), &length, kLengthBytes);
    return bytes + files.graph + files.weights;
}

Files split(const char* data, std::size_t size) {
    if (size < kLengthBytes) return {kManifest, "", ""};
    std::uint32_t length = 0;
    std::memcpy(&length, data, kLengthBytes);
    const std::string rest(data + kLengthBytes, size - kLengthBytes);
    const std::size_t end = std::min<std::size_t>(length, rest.size());
    return {kManifest, rest.substr(0, end), rest.substr(end)};
}

Outcome read_and_run(const Files& files) {
    const Copy manifest(files.manifest), graph(files.graph), weights(files.weights);
    const PackageBytes bytes = {manifest.bytes(), graph.bytes(), weights.bytes()};
    try {
        if (logits_of(bytes, "scalar") == logits_of(bytes, "")) return Outcome::ran;
    } catch (const PackageError&) {
        return Outcome::refused;
    }
    std::fprintf(stderr, "the kernels of this machine and the scalar ones differ\n");
    std::abort();
}

}  // namespace mobilequant::fuzz
