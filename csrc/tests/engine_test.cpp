// Packages run: `engine_test PACKAGE…`. Every kind of kernels and any number of threads give the logits of the scalar
// ones.
#include "runtime/engine.h"

#include <numeric>
#include <string>

#include "package/error.h"
#include "tests/check.h"
#include "tests/draw.h"

namespace mobilequant {
namespace {

using Tokens = std::vector<std::int32_t>;
using Logits = std::vector<std::int16_t>;

Tokens any_tokens(const Graph& graph, std::int64_t count) {
    test::Draw draw(1);
    Tokens tokens(static_cast<std::size_t>(count));
    for (std::int32_t& token : tokens)
        token = static_cast<std::int32_t>(draw.in<std::int64_t>(0, graph.vocab_size - 1));
    return tokens;
}

// Logits of all tokens, fed in parts of so many.
Logits in_parts(Engine& engine, const Tokens& tokens, std::size_t part) {
    Session session(engine, static_cast<std::int64_t>(tokens.size()));
    Logits all, some;
    for (std::size_t done = 0; done < tokens.size(); done += part) {
        session.run(std::span(tokens).subspan(done, std::min(part, tokens.size() - done)), some, false);
        all.insert(all.end(), some.begin(), some.end());
    }
    return all;
}

void same_logits(const std::string& folder) {
    Engine scalar(folder, {1, "scalar"});
    const Graph& graph = scalar.graph();
    const Tokens tokens = any_tokens(graph, std::min<std::int64_t>(40, graph.context - graph.num_prefix));
    const Logits expected = in_parts(scalar, tokens, 1);
    CHECK_FOR(folder, expected.size() == tokens.size() * static_cast<std::size_t>(graph.vocab_size));
    for (const Kernels& kernels : all_kernels()) {
        if (!kernels.supported()) continue;
        for (const int threads : {1, 3, 8}) {
            Engine engine(folder, {threads, kernels.name});
            for (const std::size_t part : {std::size_t{1}, std::size_t{13}, tokens.size()}) {
                if (part == 1 && threads == 8) continue;  // eight threads that meet on two cores for every token: slow
                CHECK_FOR(folder + ", " + std::string(kernels.name) + ", " + std::to_string(threads) +
                              " threads, parts of " + std::to_string(part),
                          in_parts(engine, tokens, part) == expected);
            }
        }
    }
}

void whole_context(const std::string& folder) {
    Engine engine(folder, {2, ""});
    const Graph& graph = engine.graph();
    if (graph.context > 512) return;
    Session session(engine);
    CHECK(session.room() == graph.context - graph.num_prefix);
    Logits logits;
    session.run(any_tokens(graph, session.room()), logits, true);
    CHECK(session.room() == 0 && logits.size() == static_cast<std::size_t>(graph.vocab_size));
    CHECK(test::throws<UsageError>([&] { session.run(Tokens{0}, logits, true); }));
}

// Other tokens behind a position that was gone back to give what they give in a new sequence.
void after_rewind(const std::string& folder) {
    for (const Kernels& kernels : all_kernels()) {
        if (!kernels.supported()) continue;
        Engine engine(folder, {2, kernels.name});
        const Graph& graph = engine.graph();
        const std::int64_t count = std::min<std::int64_t>(40, graph.context - graph.num_prefix), kept = count / 3;
        Tokens tokens = any_tokens(graph, count);
        Session session(engine, count);
        Logits before, behind;
        session.run(tokens, before, true);
        for (std::int64_t i = kept; i < count; ++i) {
            auto& token = tokens[static_cast<std::size_t>(i)];
            token = (token + 1) % graph.vocab_size;
        }
        session.rewind(graph.num_prefix + kept);
        session.run(std::span(tokens).subspan(static_cast<std::size_t>(kept)), behind, false);
        const Logits whole = in_parts(engine, tokens, tokens.size());
        CHECK_FOR(folder + ", " + std::string(kernels.name),
                  std::equal(behind.rbegin(), behind.rend(), whole.rbegin()));
        CHECK(test::throws<UsageError>([&] { session.rewind(graph.num_prefix - 1); }));
        CHECK(test::throws<UsageError>([&] { session.rewind(graph.num_prefix + count + 1); }));
        CHECK(session.room() == 0);
    }
}

}  // namespace
}  // namespace mobilequant

int main(int count, char** folders) {
    for (int i = 1; i < count; ++i) {
        mobilequant::same_logits(folders[i]);
        mobilequant::whole_context(folders[i]);
        mobilequant::after_rewind(folders[i]);
    }
    return mobilequant::test::result();
}
