// The C library on top of the engine: handles, and errors as numbers with a text.
#include "include/mobilequant.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include "package/error.h"
#include "runtime/engine.h"
#include "runtime/sampler.h"

using namespace mobilequant;

namespace {

// An engine and who may run it now. Sessions hold it too, so that handles can be given back in any order.
struct Shared {
    Shared(const char* folder, const EngineOptions& options) : engine(folder, options) {}
    Engine engine;
    std::mutex running;
};

}  // namespace

struct mq_model {
    std::shared_ptr<Shared> shared;
};

struct mq_session {
    mq_session(std::shared_ptr<Shared> of, std::int64_t capacity)
        : shared(std::move(of)), session(shared->engine, capacity) {}
    std::shared_ptr<Shared> shared;
    Session session;
    std::vector<std::int16_t> logits;
};

struct mq_sampler {
    mq_sampler(const Sampling& sampling, const Engine& engine)
        : sampler(sampling, engine.logits_scale()), vocab_size(engine.graph().vocab_size) {}
    Sampler sampler;
    std::int64_t vocab_size;
};

namespace {

std::string& last_error() {
    thread_local std::string text;
    return text;
}

mq_status failed(mq_status status, const char* text) noexcept {
    try {
        last_error() = text;
    } catch (...) {
        last_error().clear();
    }
    return status;
}

// Call `work`; whatever it throws becomes a status.
template <class Work>
mq_status guarded(const Work& work) noexcept {
    try {
        work();
        return MQ_OK;
    } catch (const PackageError& error) {
        return failed(MQ_ERROR_PACKAGE, error.what());
    } catch (const UsageError& error) {
        return failed(MQ_ERROR_USAGE, error.what());
    } catch (const std::bad_alloc&) {
        return failed(MQ_ERROR_RESOURCE, "there is not enough memory; a smaller capacity takes less");
    } catch (const std::system_error& error) {
        return failed(MQ_ERROR_RESOURCE, error.what());
    } catch (const std::exception& error) {
        return failed(MQ_ERROR_INTERNAL, error.what());
    } catch (...) {
        return failed(MQ_ERROR_INTERNAL, "an error without a text");
    }
}

void demand(bool holds, const char* broken) {
    if (!holds) throw UsageError(broken);
}

const Graph* graph_of(const mq_model* model) { return model ? &model->shared->engine.graph() : nullptr; }

mq_status run(mq_session* session, const std::int32_t* tokens, std::int64_t count, std::int16_t* logits,
              std::int64_t size, bool all) {
    return guarded([&] {
        demand(session && logits, "mq_run needs a session and a place for logits");
        demand(tokens && count > 0, "no token was given");
        Engine& engine = session->shared->engine;
        demand(size / engine.graph().vocab_size >= (all ? count : 1), "the place for logits is too small");
        const std::lock_guard lock(session->shared->running);
        session->session.run({tokens, static_cast<std::size_t>(count)}, session->logits, !all);
        std::copy(session->logits.begin(), session->logits.end(), logits);
    });
}

}  // namespace

const char* mq_version(void) { return MQ_VERSION; }
const char* mq_last_error(void) { return last_error().c_str(); }

mq_status mq_open(const char* folder, std::int32_t threads, const char* kernels, mq_model** model) {
    return guarded([&] {
        demand(folder && model, "mq_open needs a folder and a place for the handle");
        const EngineOptions options{threads, kernels ? kernels : ""};
        *model = new mq_model{std::make_shared<Shared>(folder, options)};
    });
}

void mq_close(mq_model* model) { delete model; }

std::int64_t mq_vocab_size(const mq_model* model) { return model ? graph_of(model)->vocab_size : 0; }
std::int64_t mq_context(const mq_model* model) { return model ? graph_of(model)->context : 0; }
std::int64_t mq_num_prefix(const mq_model* model) { return model ? graph_of(model)->num_prefix : 0; }

std::int32_t mq_leading_token(const mq_model* model) {
    if (!model) return -1;
    const auto token = model->shared->engine.leading_token();
    const auto& prefix = graph_of(model)->prefix_tokens;
    return token && (prefix.empty() || prefix.front() != *token) ? *token : -1;
}

double mq_logits_scale(const mq_model* model) { return model ? model->shared->engine.logits_scale() : 0; }
const char* mq_kernels(const mq_model* model) { return model ? model->shared->engine.kernels().name.data() : ""; }

const char* mq_kernels_name(std::int32_t number) {
    for (const Kernels& each : all_kernels())
        if (each.supported() && number-- == 0) return each.name.data();
    return nullptr;
}

mq_status mq_session_new(const mq_model* model, std::int64_t capacity, mq_session** session) {
    return guarded([&] {
        demand(model && session, "mq_session_new needs a model and a place for the handle");
        demand(capacity >= 0, "the capacity must be 0 or more");
        *session = new mq_session(model->shared, capacity);
    });
}

void mq_session_free(mq_session* session) { delete session; }

std::int64_t mq_session_position(const mq_session* session) {
    return session ? session->session.position() - session->shared->engine.graph().num_prefix : 0;
}

std::int64_t mq_session_room(const mq_session* session) { return session ? session->session.room() : 0; }

mq_status mq_session_rewind(mq_session* session, std::int64_t position) {
    return guarded([&] {
        demand(session, "mq_session_rewind needs a session");
        demand(position >= 0 && position <= mq_session_position(session), "there is no such position to go back to");
        session->session.rewind(position + session->shared->engine.graph().num_prefix);
    });
}

mq_status mq_run(mq_session* session, const std::int32_t* tokens, std::int64_t count, std::int16_t* logits,
                 std::int64_t size) {
    return run(session, tokens, count, logits, size, false);
}

mq_status mq_run_all(mq_session* session, const std::int32_t* tokens, std::int64_t count, std::int16_t* logits,
                     std::int64_t size) {
    return run(session, tokens, count, logits, size, true);
}

mq_status mq_sampler_new(const mq_model* model, double temperature, std::int64_t top_k, double top_p,
                         double repetition_penalty, std::uint64_t seed, mq_sampler** sampler) {
    return guarded([&] {
        demand(model && sampler, "mq_sampler_new needs a model and a place for the handle");
        const Sampling sampling{temperature, top_k, top_p, repetition_penalty, seed};
        *sampler = new mq_sampler(sampling, model->shared->engine);
    });
}

void mq_sampler_free(mq_sampler* sampler) { delete sampler; }

mq_status mq_sample(mq_sampler* sampler, const std::int16_t* logits, const std::int32_t* before, std::int64_t count,
                    std::int32_t* token) {
    return guarded([&] {
        demand(sampler && logits && token, "mq_sample needs a sampler, logits and a place for the token");
        demand(count >= 0 && (before || count == 0), "mq_sample needs the tokens before");
        const std::span all(logits, static_cast<std::size_t>(sampler->vocab_size));
        *token = sampler->sampler.choose(all, {before, static_cast<std::size_t>(count)});
    });
}
