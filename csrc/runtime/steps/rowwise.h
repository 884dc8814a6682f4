// Steps that compute whole rows: embedding, norm, rope, tables, multiply, add.
#pragma once

#include <memory>

#include "graph/graph.h"
#include "graph/packed_matrix.h"
#include "runtime/step.h"

namespace mobilequant {

// What the makers of steps know: the graph, where its tensors lie, and the kernels.
struct Site {
    const Graph& graph;
    const std::vector<Place>& places;
    const Kernels& kernels;

    const Tensor& tensor(int number) const { return graph.tensors[static_cast<std::size_t>(number)]; }
    const Place& place(int number) const { return places[static_cast<std::size_t>(number)]; }
    int type(int number) const { return tensor(number).dtype == DType::uint8 ? 0 : 1; }  // index into Elementwise
    Format format(int number) const {
        const Tensor& to = tensor(number);
        return {to.zero_point, to.qmin, to.qmax};
    }
};

// `bound`: what the magnitude of a rescaled number cannot exceed.
inline Factor factor(const Rescale& rescale, std::int64_t bound) {
    return make_factor(rescale.mantissa, rescale.shift, bound);
}

// The largest distance of a code from the zero point.
std::int64_t reach(const Tensor& tensor);

// `tied`: the packed codes, where a matrix has them too; else they are read from the file.
std::unique_ptr<Step> make_embedding(const Embedding& op, const Site& site, const PackedMatrix* tied);
std::unique_ptr<Step> make_norm(const Norm& op, const Site& site);
std::unique_ptr<Step> make_rope(const Rope& op, const Site& site);
std::unique_ptr<Step> make_table(const Table& op, const Site& site);
std::unique_ptr<Step> make_multiply(const Multiply& op, const Site& site);
std::unique_ptr<Step> make_add(const Add& op, const Site& site);

}  // namespace mobilequant
