// What a run leaves behind that keeps all of its tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace mobilequant {

// Codes of a tensor: rows (T, C), or scores and probabilities (H, T, S).
struct TracedTensor {
    int number;  // in the graph
    std::vector<std::int64_t> shape;
    std::vector<std::byte> codes;
};

// Scores, what a table makes of them, and probabilities; everything else lies in the rows of the workspace.
class Trace {
  public:
    void expect(int tensor, std::int64_t heads, std::int64_t rows, std::int64_t positions, std::size_t code_bytes) {
        const std::size_t bytes = static_cast<std::size_t>(heads * rows * positions) * code_bytes;
        squares_[tensor] = {{tensor, {heads, rows, positions}, std::vector<std::byte>(bytes)}, code_bytes};
    }
    // (S) codes of one head and row.
    std::byte* row(int tensor, std::int64_t head, std::int64_t row) {
        auto& [square, code_bytes] = squares_.at(tensor);
        return square.codes.data() +
               static_cast<std::size_t>((head * square.shape[1] + row) * square.shape[2]) * code_bytes;
    }
    bool has(int tensor) const { return squares_.contains(tensor); }
    TracedTensor take(int tensor) { return std::move(squares_.at(tensor).first); }

  private:
    std::map<int, std::pair<TracedTensor, std::size_t>> squares_;
};

}  // namespace mobilequant
