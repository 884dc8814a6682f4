#include "runtime/matrix_store.h"

#include <atomic>
#include <utility>
#include <vector>

#include "package/error.h"

namespace mobilequant {
namespace {

std::map<Array, Array> matrices_of(const Graph& graph) {  // codes → multipliers of their groups, or nullptr
    std::map<Array, Array> found;
    for (const Op& op : graph.ops) {
        const auto* linear = std::get_if<Linear>(&op);
        if (!linear) continue;
        const auto [place, first] = found.emplace(linear->codes, linear->group_multiplier);
        require(first || place->second == linear->group_multiplier,
                linear->codes->name + ": two matrices read these codes with different group multipliers");
    }
    for (const Op& op : graph.ops)  // an embedding reads codes alone
        if (const auto* embedding = std::get_if<Embedding>(&op)) found.emplace(embedding->codes, nullptr);
    return found;
}

}  // namespace

MatrixStore::MatrixStore(const Graph& graph, const MappedFile& file, Team& team) {
    std::vector<PackedMatrix*> all;
    std::size_t total = 0;
    for (const auto& [codes, multiplier] : matrices_of(graph)) {
        auto& matrix = matrices_[codes] = std::make_unique<PackedMatrix>(*codes, multiplier);
        all.push_back(matrix.get());
        total += matrix->packed_bytes();
    }
    memory_ = AlignedBytes(total);
    std::vector<std::byte*> places;
    std::byte* next = memory_.data();
    for (const PackedMatrix* matrix : all) places.push_back(std::exchange(next, next + matrix->packed_bytes()));
    std::atomic<std::size_t> taken{0};
    team.run([&](const Member&) {
        for (std::size_t i = taken++; i < all.size(); i = taken++) all[i]->pack(places[i], file);
    });
}

}  // namespace mobilequant
