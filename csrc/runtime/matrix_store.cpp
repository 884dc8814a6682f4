#include "runtime/matrix_store.h"

#include <algorithm>
#include <atomic>

namespace mobilequant {
MatrixStore::MatrixStore(const std::vector<Walk>& walks, const MappedFile& file, Team& team) {
    place(make_matrices(walks), team.size());
    std::vector<PackedMatrix*> all;
    for (const auto& [source, matrix] : matrices_) all.push_back(matrix.get());
    std::atomic<std::size_t> taken{0};
    team.run([&](const Member&) {
        for (std::size_t i = taken++; i < all.size(); i = taken++) all[i]->pack(file);
    });
}

// Each matrix once, where it is used for the last time.
std::vector<MatrixStore::Group> MatrixStore::make_matrices(const std::vector<Walk>& walks) {
    std::vector<Group> groups;
    for (auto walk = walks.rbegin(); walk != walks.rend(); ++walk) {
        Group group;
        for (const Linear* op : *walk) {
            auto& matrix = matrices_[{op->codes, op->group_multiplier}];
            if (matrix) continue;
            matrix = std::make_unique<PackedMatrix>(*op->codes, op->group_multiplier);
            group.push_back(matrix.get());
        }
        if (!group.empty()) groups.push_back(std::move(group));
    }
    std::reverse(groups.begin(), groups.end());
    return groups;
}

void MatrixStore::place(const std::vector<Group>& groups, int members) {
    std::size_t total = 0;
    for (const Group& group : groups)
        for (const PackedMatrix* matrix : group)
            total += matrix->panel_bytes() * static_cast<std::size_t>(matrix->panels());
    memory_ = AlignedBytes(total);
    std::byte* next = memory_.data();
    for (int member = 0; member < members; ++member) {
        for (const Group& group : groups) {
            const auto [first, last] = share_of(group.front()->panels(), member, members);
            for (std::int64_t panel = first; panel < last; ++panel) {
                for (PackedMatrix* matrix : group) {
                    matrix->place(panel, next);
                    next += matrix->panel_bytes();
                }
            }
        }
    }
}

}  // namespace mobilequant
