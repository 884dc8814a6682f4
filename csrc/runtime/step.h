// A step of the plan: one operation, or several that are done in one pass.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "runtime/aligned.h"
#include "runtime/team.h"

namespace mobilequant {

class KVCache;
class Trace;

// Where the rows of a tensor lie: in a slot of one of two pools. Slots are used again when nothing reads them any more.
struct Place {
    bool shared;  // written by all members of a team together; the others are written by whole rows
    std::size_t offset, stride;
};

// Memory of one call: rows of all tensors. A single row that every member computes for itself lies once for each of
// them.
class Workspace {
  public:
    Workspace(std::size_t shared_bytes, std::size_t row_bytes, std::int64_t max_rows, int members,
              std::size_t common_bytes, std::size_t scratch_bytes);

    std::byte* row(const Place& place, std::int64_t row, int member, bool single) {
        const std::int64_t scale = single ? 1 : max_rows_;
        AlignedBytes& pool = place.shared ? shared_ : single ? own_[static_cast<std::size_t>(member)] : rows_;
        return pool.data() + place.offset * static_cast<std::size_t>(scale) +
               place.stride * static_cast<std::size_t>(row);
    }

    // What the members of one step share while it runs.
    std::byte* common() { return common_.data(); }

    // What one member needs while a step runs, with anything in it.
    std::byte* scratch(int member) { return scratch_[static_cast<std::size_t>(member)].data(); }

  private:
    std::int64_t max_rows_;
    AlignedBytes shared_, rows_, common_;
    std::vector<AlignedBytes> own_, scratch_;
};

// Tokens that are run at once.
struct Call {
    const std::int32_t* tokens;
    std::int64_t rows, position;  // position of the first
    Workspace& workspace;
    std::vector<KVCache>& caches;
    Trace* trace = nullptr;  // where a run that keeps all tensors puts what no row holds
    std::int64_t first = 0;  // rows before it need not be computed

    bool single() const { return rows == 1; }
    std::byte* row(const Place& place, std::int64_t row, const Member& member) const {
        return workspace.row(place, row, member.index(), single());
    }
    // The rows that a member computes of a step that works on whole rows.
    Share rows_of(const Member& member) const {
        if (single()) return {0, 1};
        const auto [from, to] = member.share(rows - first);
        return {first + from, first + to};
    }
    // The same call for its last row alone.
    Call last_row() const {
        Call last = *this;
        last.first = rows - 1;
        return last;
    }
};

class Step {
  public:
    virtual ~Step() = default;

    // Whether members divide the rows among them (and each does a single one), or divide the work within rows.
    virtual bool by_rows() const = 0;
    virtual void run(const Call& call, const Member& member) const = 0;

    // Bytes that it needs of Workspace::common and of each member's scratch where a sequence may have so many
    // positions.
    virtual std::size_t common_bytes(std::int64_t /*positions*/) const { return 0; }
    virtual std::size_t scratch_bytes(std::int64_t /*positions*/) const { return 0; }
};

}  // namespace mobilequant
