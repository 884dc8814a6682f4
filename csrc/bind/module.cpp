// The engine as a Python module. Logits go out without a copy of ours; the interpreter lock is released while it runs.
// `mobilequant.engine` is the face for people: it checks what it is given and knows what to do about an error.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "package/error.h"
#include "runtime/engine.h"
#include "runtime/sampler.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace mobilequant;

namespace {

template <class Value>
using Input = nb::ndarray<const Value, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Logits = nb::ndarray<nb::numpy, std::int16_t, nb::ndim<2>>;

template <class Value>
std::span<const Value> span(const Input<Value>& input) {
    return {input.data(), input.size()};
}

// (T, V), or (1, V) of the last token.
Logits run(Session& session, const Input<std::int32_t>& tokens, bool only_last) {
    auto* logits = new std::vector<std::int16_t>;
    const nb::capsule owner(logits, [](void* held) noexcept { delete static_cast<std::vector<std::int16_t>*>(held); });
    {
        const nb::gil_scoped_release release;
        session.run(span(tokens), *logits, only_last);
    }
    const std::size_t rows = only_last ? 1 : tokens.size();
    return Logits(logits->data(), {rows, logits->size() / rows}, owner);
}

template <class Code>
nb::object array(TracedTensor& traced) {
    auto* codes = new std::vector<std::byte>(std::move(traced.codes));
    const nb::capsule owner(codes, [](void* held) noexcept { delete static_cast<std::vector<std::byte>*>(held); });
    const std::vector<std::size_t> shape(traced.shape.begin(), traced.shape.end());
    using Array = nb::ndarray<nb::numpy, Code>;
    return nb::cast(Array(reinterpret_cast<Code*>(codes->data()), shape.size(), shape.data(), owner));
}

// (name, codes) of every tensor in running order: uint8 or int16 (T, C), scores and probabilities (H, T, S).
nb::list trace(Session& session, const Engine& engine, const Input<std::int32_t>& tokens) {
    std::vector<TracedTensor> traced;
    {
        const nb::gil_scoped_release release;
        traced = session.trace(span(tokens));
    }
    nb::list found;
    for (TracedTensor& each : traced) {
        const Tensor& tensor = engine.graph().tensors[static_cast<std::size_t>(each.number)];
        const bool narrow = tensor.dtype == DType::uint8;
        found.append(nb::make_tuple(tensor.name, narrow ? array<std::uint8_t>(each) : array<std::int16_t>(each)));
    }
    return found;
}

std::vector<std::string> supported_kernels() {
    std::vector<std::string> names;
    for (const Kernels& each : all_kernels())
        if (each.supported()) names.emplace_back(each.name);
    return names;
}

void bind_engine(nb::module_& m) {
    nb::class_<Engine>(m, "Engine")
        .def(
            "__init__",
            [](Engine* self, const std::filesystem::path& folder, int threads, const std::string& kernels,
               bool traced) {
                const nb::gil_scoped_release release;
                new (self) Engine(folder, {threads, kernels, traced ? Keep::all : Keep::output});
            },
            "folder"_a, "threads"_a, "kernels"_a, "traced"_a)
        .def_prop_ro("kernels", [](const Engine& engine) { return std::string(engine.kernels().name); })
        .def_prop_ro("vocab_size", [](const Engine& engine) { return engine.graph().vocab_size; })
        .def_prop_ro("context", [](const Engine& engine) { return engine.graph().context; })
        .def_prop_ro("prefix_tokens", [](const Engine& engine) { return engine.graph().prefix_tokens; })
        .def_prop_ro("leading_token", [](const Engine& engine) { return engine.package().leading_token(); })
        .def_prop_ro("logits_scale", [](const Engine& engine) {
            return engine.graph().tensors[static_cast<std::size_t>(engine.graph().output)].scale;
        });
    nb::class_<Session>(m, "Session")
        .def(nb::init<Engine&, std::int64_t>(), "engine"_a, "capacity"_a, nb::keep_alive<1, 2>())
        .def("run", &run, "tokens"_a, "only_last"_a)
        .def("trace", &trace, "engine"_a, "tokens"_a)
        .def("rewind", &Session::rewind, "position"_a)
        .def_prop_ro("position", &Session::position)
        .def_prop_ro("room", &Session::room);
}

void bind_sampler(nb::module_& m) {
    nb::class_<Sampler>(m, "Sampler")
        .def(
            "__init__",
            [](Sampler* self, double scale, double temperature, std::int64_t top_k, double top_p,
               double repetition_penalty, std::uint64_t seed) {
                new (self) Sampler({temperature, top_k, top_p, repetition_penalty, seed}, scale);
            },
            "scale"_a, "temperature"_a, "top_k"_a, "top_p"_a, "repetition_penalty"_a, "seed"_a)
        .def(
            "choose",
            [](Sampler& self, const Input<std::int16_t>& logits, const Input<std::int32_t>& before) {
                return self.choose(span(logits), span(before));
            },
            "logits"_a, "before"_a);
}

}  // namespace

NB_MODULE(_core, m) {
    nb::set_leak_warnings(false);  // a program that ends inside a generation is no leak
    nb::exception<PackageError>(m, "PackageError");
    nb::exception<UsageError>(m, "UsageError");
    m.def("kernels", &supported_kernels);
    bind_engine(m);
    bind_sampler(m);
}
