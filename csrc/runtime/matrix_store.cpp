#include "runtime/matrix_store.h"

#include <atomic>
#include <utility>
#include <vector>

namespace mobilequant {
namespace {

std::map<Array, Array> matrices_of(const Graph& graph) {  // codes → multipliers of their groups, or nullptr
    std::map<Array, Array> found;
    for (const Op& op : graph.ops) {
        if (const auto* embedding = std::get_if<Embedding>(&op)) found.emplace(embedding->codes, nullptr);
        if (const auto* linear = std::get_if<Linear>(&op)) {
            Array& multiplier = found[linear->codes];
            multiplier = linear->group_multiplier ? linear->group_multiplier : multiplier;
        }
    }
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
