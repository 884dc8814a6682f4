// The integer graph of a package as plain data: what docs/integer-semantics.md describes, one struct per operation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace mobilequant {

enum class DType { int4, int8, uint8, int16, int32 };

// An activation. int16 tensors have zero point 0.
struct Tensor {
    std::string name;
    DType dtype;  // uint8 or int16
    std::int32_t zero_point, qmin, qmax;
    double scale;  // real value of a step; no operation reads it
    std::int64_t channels;

    std::size_t code_bytes() const { return dtype == DType::uint8 ? 1 : 2; }
};

// A stored array, in the mapped file. int4 codes lie two in a byte, the even column in the low nibble.
struct Constant {
    std::string name;
    DType dtype;
    std::vector<std::int64_t> shape;
    const std::byte* data;
    std::size_t size_bytes;

    template <class Value>
    const Value* as() const {
        return reinterpret_cast<const Value*>(data);
    }
};

using Array = const Constant*;  // nullptr where an optional constant is absent

// rescale(v) = (v · mantissa + 2^(shift−1)) >> shift
struct Rescale {
    std::int32_t mantissa;
    int shift;
};

// Rescale factors of every row.
struct RowRescale {
    Array mantissa, shift;  // int32, int8
};

// Inputs and outputs are numbers of tensors.
struct Embedding {
    int output;
    Array codes;
    RowRescale rescale;
    Array position_codes;
    RowRescale position_rescale;
    Array exponent, position_exponent;
};

struct Linear {
    int input, output;
    Array codes;
    RowRescale rescale;
    Array bias, group_multiplier;
};

struct Norm {
    int input, output;
    Array gain, bias, exponent;
    std::int64_t epsilon;
    bool subtract_mean;
    std::int64_t group;
    Rescale rescale;
};

struct Rope {
    int input, output;
    Array cos, sin;
    std::int64_t head_dim;
    Rescale rescale;
};

struct AttentionScores {
    int queries, keys, output;
    std::int64_t layer, num_heads, head_dim, window;
    Rescale rescale;
};

struct Softmax {
    int input, output;
    Array table;
    std::int64_t one, window;
    Rescale rescale;
};

struct AttentionContext {
    int probabilities, values, output;
    std::int64_t layer, num_heads, head_dim;
    Rescale rescale;
};

// A function of one tensor: 256 entries for uint8, 513 for int16.
struct Table {
    int input, output;
    Array table;
};

struct Multiply {
    int a, b, output;
    Rescale rescale;
};

struct Add {
    int a, b, output;
    Rescale rescale_a, rescale_b, rescale;
};

using Op =
    std::variant<Embedding, Linear, Norm, Rope, AttentionScores, Softmax, AttentionContext, Table, Multiply, Add>;

inline int output_of(const Op& op) {
    return std::visit([](const auto& each) { return each.output; }, op);
}

// Constant keys and values (num_prefix, heads, head_dim) with which the cache of a layer begins.
struct Cache {
    std::int64_t num_kv_heads, head_dim;
    Array keys, values;
};

struct Graph {
    std::vector<Tensor> tensors;  // in the order in which they are computed: tensor i is the output of op i
    std::vector<Op> ops;
    std::vector<Cache> caches;
    int output;
    std::int64_t vocab_size, context, num_prefix;
    std::vector<std::int32_t> prefix_tokens;
};

}  // namespace mobilequant
