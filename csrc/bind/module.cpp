// The engine as a Python module. Arrays go in and out without a copy of ours; the interpreter lock is released while it runs.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include "package/error.h"
#include "runtime/engine.h"
#include "runtime/sampler.h"

namespace nb = nanobind;
using namespace mobilequant;

namespace {

using Tokens = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Logits = nb::ndarray<nb::numpy, std::int16_t, nb::ndim<2>>;

std::span<const std::int32_t> span(const Tokens& tokens) { return {tokens.data(), tokens.size()}; }

Logits run(Session& session, Engine& engine, const Tokens& tokens, bool only_last) {
    auto* logits = new std::vector<std::int16_t>;
    const nb::capsule owner(logits, [](void* held) noexcept { delete static_cast<std::vector<std::int16_t>*>(held); });
    {
        const nb::gil_scoped_release release;
        session.run(span(tokens), *logits, only_last);
    }
    const auto vocab = static_cast<std::size_t>(engine.graph().vocab_size);
    return Logits(logits->data(), {logits->size() / vocab, vocab}, owner);
}

// (name, codes) of every tensor in running order: uint8 or int16 (T, C), scores and probabilities (H, T, S).
nb::list trace(Session& session, Engine& engine, const Tokens& tokens) {
    std::vector<TracedTensor> traced;
    {
        const nb::gil_scoped_release release;
        traced = session.trace(span(tokens));
    }
    nb::list found;
    for (TracedTensor& each : traced) {
        const Tensor& tensor = engine.graph().tensors[static_cast<std::size_t>(each.number)];
        auto* codes = new std::vector<std::byte>(std::move(each.codes));
        const nb::capsule owner(codes, [](void* held) noexcept { delete static_cast<std::vector<std::byte>*>(held); });
        const std::vector<std::size_t> shape(each.shape.begin(), each.shape.end());
        const auto type = tensor.dtype == DType::uint8 ? nb::dtype<std::uint8_t>() : nb::dtype<std::int16_t>();
        found.append(nb::make_tuple(tensor.name, nb::ndarray<nb::numpy>(codes->data(), shape.size(), shape.data(), owner, nullptr, type)));
    }
    return found;
}

}  // namespace

NB_MODULE(_core, m) {
    nb::exception<PackageError>(m, "PackageError");
    nb::exception<UsageError>(m, "UsageError");
    m.def("kernels", [] {
        std::vector<std::string> names;
        for (const Kernels& each : all_kernels())
            if (each.supported()) names.emplace_back(each.name);
        return names;
    });
    nb::class_<Engine>(m, "Engine")
        .def("__init__",
             [](Engine* self, const std::filesystem::path& folder, int threads, const std::string& kernels, bool keep_all) {
                 const nb::gil_scoped_release release;
                 new (self) Engine(folder, {threads, kernels, keep_all ? Keep::all : Keep::output});
             })
        .def_prop_ro("kernels", [](const Engine& engine) { return std::string(engine.kernels().name); })
        .def_prop_ro("vocab_size", [](const Engine& engine) { return engine.graph().vocab_size; })
        .def_prop_ro("logits_scale", [](const Engine& engine) {
            return engine.graph().tensors[static_cast<std::size_t>(engine.graph().output)].scale;
        });
    nb::class_<Session>(m, "Session")
        .def(nb::init<Engine&, std::int64_t>(), nb::keep_alive<1, 2>())
        .def("run", &run)
        .def("trace", &trace)
        .def_prop_ro("position", &Session::position);
}
