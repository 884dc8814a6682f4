#include "graph/read.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <unordered_map>

#include "package/error.h"

namespace mobilequant {
namespace {

constexpr std::int64_t kMaxMantissa = (std::int64_t{1} << 31) - 1, kMaxAttribute = (std::int64_t{1} << 62) - 1;
constexpr std::int64_t kMinShift = 2, kMaxShift = 62;

DType dtype_of(const std::string& name, const std::string& where) {
    static const std::unordered_map<std::string, DType> kTypes = {{"int4", DType::int4},
                                                                  {"int8", DType::int8},
                                                                  {"uint8", DType::uint8},
                                                                  {"int16", DType::int16},
                                                                  {"int32", DType::int32}};
    const auto found = kTypes.find(name);
    require(found != kTypes.end(), where + " is of unknown dtype " + name);
    return found->second;
}

const char* stored_dtype(DType dtype) {
    switch (dtype) {
        case DType::int8:
            return "I8";
        case DType::int16:
            return "I16";
        case DType::int32:
            return "I32";
        default:
            return "U8";
    }
}

std::int32_t integer32(const Json& value, const std::string& where) {
    const std::int64_t wide = value.integer(where);
    require(std::numeric_limits<std::int32_t>::min() <= wide && wide <= std::numeric_limits<std::int32_t>::max(),
            where + " does not fit 32 bits");
    return static_cast<std::int32_t>(wide);
}

Tensor read_tensor(const Json& entry) {
    Members members(entry, "a tensor");
    Tensor tensor{members.required("name").string("the name of a tensor"), DType::uint8, 0, 0, 0, 0, 0};
    const std::string where = "tensor " + tensor.name;
    tensor.dtype = dtype_of(members.required("dtype").string(where), where);
    tensor.zero_point = integer32(members.required("zero_point"), where);
    tensor.qmin = integer32(members.required("qmin"), where);
    tensor.qmax = integer32(members.required("qmax"), where);
    tensor.scale = members.required("scale").number(where);
    tensor.channels = members.required("channels").integer(where);
    members.done();
    return tensor;
}

// The parts of one operation, each asked for once.
class OpReader {
  public:
    using Names = std::unordered_map<std::string, int>;
    using ConstantNames = std::unordered_map<std::string, const Constant*>;

    OpReader(const Json& entry, const Names& computed, const ConstantNames& constants)
        : OpReader(Members(entry, "an operation"), computed, constants) {}

    const std::string& kind() const { return kind_; }
    const std::string& output() const { return output_; }
    const std::string& where() const { return where_; }

    // Number of the tensor; −1 for the token ids.
    int input(std::size_t number) const {
        const std::string name = inputs_[number].string(where_);
        if (name == "tokens") return -1;
        const auto found = computed_.find(name);
        require(found != computed_.end(), where_ + " reads " + name + " before it is computed");
        return found->second;
    }

    int row_input(std::size_t number) const {
        const int tensor = input(number);
        require(tensor >= 0, where_ + " cannot read tokens");
        return tensor;
    }

    void inputs(std::size_t count) const {
        require(inputs_.size() == count, where_ + " needs " + std::to_string(count) + " inputs");
    }

    std::int64_t attribute(const char* name, std::int64_t low = 0, std::int64_t high = kMaxAttribute) {
        const std::int64_t value = attributes_.required(name).integer(where_ + ": " + name);
        require(low <= value && value <= high, where_ + ": " + name + " is out of bounds");
        return value;
    }

    Rescale rescale(const std::string& suffix = "") {
        const auto mantissa = attribute(("mantissa" + suffix).c_str(), 0, kMaxMantissa);
        const auto shift = attribute(("shift" + suffix).c_str(), kMinShift, kMaxShift);
        return {static_cast<std::int32_t>(mantissa), static_cast<int>(shift)};
    }

    Array constant(const char* name, std::initializer_list<DType> allowed) {
        return found(name, constants_.required(name), allowed);
    }

    Array optional(const char* name, std::initializer_list<DType> allowed) {
        const Json* entry = constants_.optional(name);
        return entry ? found(name, *entry, allowed) : nullptr;
    }

    void done() const { attributes_.done(), constants_.done(); }

  private:
    OpReader(Members members, const Names& computed, const ConstantNames& constants)
        : kind_(members.required("kind").string("the kind of an operation")),
          output_(members.required("output").string("the output of an operation")),
          where_("operation " + output_ + " (" + kind_ + ")"),
          inputs_(members.required("inputs").array(where_)),
          attributes_(members.required("attributes"), where_ + ": attributes"),
          constants_(members.required("constants"), where_ + ": constants"),
          computed_(computed),
          known_(constants) {
        members.done();
    }

    Array found(const char* name, const Json& entry, std::initializer_list<DType> allowed) const {
        const auto constant = known_.find(entry.string(where_));
        require(constant != known_.end(), where_ + ": " + name + " names no constant");
        const bool fits = std::find(allowed.begin(), allowed.end(), constant->second->dtype) != allowed.end();
        require(fits, where_ + ": " + name + " is of the wrong dtype");
        return constant->second;
    }

    std::string kind_, output_, where_;
    const Json::Array& inputs_;
    Members attributes_, constants_;
    const Names& computed_;
    const ConstantNames& known_;
};

using enum DType;

RowRescale row_rescale(OpReader& op) { return {op.constant("mantissa", {int32}), op.constant("shift", {int8})}; }

Op read_embedding(OpReader& op, int output) {
    op.inputs(1);
    require(op.input(0) == -1, op.where() + " must read tokens");
    Embedding out{};
    out.output = output;
    out.codes = op.constant("codes", {int8});
    out.rescale = row_rescale(op);
    out.position_codes = op.optional("position_codes", {int8});
    out.position_rescale = {op.optional("position_mantissa", {int32}), op.optional("position_shift", {int8})};
    out.exponent = op.optional("exponent", {uint8});
    out.position_exponent = op.optional("position_exponent", {uint8});
    return out;
}

Op read_linear(OpReader& op, int output) {
    op.inputs(1);
    op.attribute("accumulator_bound", 0, kMaxMantissa);  // computed anew from the weights, see check.h
    Linear out{op.row_input(0), output, op.constant("codes", {int8, int4}), row_rescale(op), nullptr, nullptr};
    out.bias = op.optional("bias", {int32});
    out.group_multiplier = op.optional("group_multiplier", {uint8});
    return out;
}

Op read_norm(OpReader& op, int output) {
    op.inputs(1);
    Norm out{op.row_input(0), output, op.constant("gain", {int16}), nullptr, nullptr, 0, false, 0, {}};
    out.bias = op.optional("bias", {int32});
    out.exponent = op.optional("exponent", {uint8});
    out.epsilon = op.attribute("epsilon");
    out.subtract_mean = op.attribute("subtract_mean", 0, 1) == 1;
    out.group = op.attribute("group");
    out.rescale = op.rescale();
    return out;
}

Op read_rope(OpReader& op, int output) {
    op.inputs(1);
    return Rope{op.row_input(0),          output,      op.constant("cos", {int16}), op.constant("sin", {int16}),
                op.attribute("head_dim"), op.rescale()};
}

Op read_scores(OpReader& op, int output) {
    op.inputs(2);
    return AttentionScores{
        op.row_input(0),          op.row_input(1),        output,      op.attribute("layer"), op.attribute("num_heads"),
        op.attribute("head_dim"), op.attribute("window"), op.rescale()};
}

Op read_softmax(OpReader& op, int output) {
    op.inputs(1);
    return Softmax{op.row_input(0),        output,      op.constant("table", {int32}), op.attribute("one"),
                   op.attribute("window"), op.rescale()};
}

Op read_context(OpReader& op, int output) {
    op.inputs(2);
    return AttentionContext{op.row_input(0),           op.row_input(1),          output,      op.attribute("layer"),
                            op.attribute("num_heads"), op.attribute("head_dim"), op.rescale()};
}

Op read_table8(OpReader& op, int output) {
    op.inputs(1);
    return Table{op.row_input(0), output, op.constant("table", {uint8, int16})};
}

Op read_table16(OpReader& op, int output) {
    op.inputs(1);
    return Table{op.row_input(0), output, op.constant("table", {int16})};
}

Op read_multiply(OpReader& op, int output) {
    op.inputs(2);
    return Multiply{op.row_input(0), op.row_input(1), output, op.rescale()};
}

Op read_add(OpReader& op, int output) {
    op.inputs(2);
    return Add{op.row_input(0), op.row_input(1), output, op.rescale("_a"), op.rescale("_b"), op.rescale()};
}

Op read_op(OpReader& op, int output) {
    using Read = Op (*)(OpReader&, int);
    static const std::unordered_map<std::string, Read> kReaders = {{"embedding", read_embedding},
                                                                   {"linear", read_linear},
                                                                   {"norm", read_norm},
                                                                   {"rope", read_rope},
                                                                   {"attention_scores", read_scores},
                                                                   {"softmax", read_softmax},
                                                                   {"attention_context", read_context},
                                                                   {"table8", read_table8},
                                                                   {"table16", read_table16},
                                                                   {"multiply", read_multiply},
                                                                   {"add", read_add}};
    const auto reader = kReaders.find(op.kind());
    require(reader != kReaders.end(), op.where() + " is of an unknown kind");
    Op read = reader->second(op, output);
    op.done();
    return read;
}

std::vector<std::int64_t> stored_shape(const Constant& constant) {
    std::vector<std::int64_t> shape = constant.shape;
    if (constant.dtype == DType::int4) {
        require(shape.size() == 2, "constant " + constant.name + " is int4, but no matrix");
        shape[1] = shape[1] / 2 + shape[1] % 2;
    }
    return shape;
}

}  // namespace

std::vector<Constant> read_constants(const Json& entries,
                                     const std::map<std::string, StoredArray, std::less<>>& arrays) {
    std::vector<Constant> constants;
    for (const auto& [name, entry] : entries.object("constants")) {
        const std::string where = "constant " + name;
        Members members(entry, where);
        Constant constant{name, dtype_of(members.required("dtype").string(where), where), {}, nullptr, 0};
        for (const Json& size : members.required("shape").array(where)) constant.shape.push_back(size.integer(where));
        members.done();
        const auto array = arrays.find(name);
        require(array != arrays.end(), where + " is not in weights.safetensors");
        const bool fits =
            array->second.dtype == stored_dtype(constant.dtype) && array->second.shape == stored_shape(constant);
        require(fits, where + " lies in weights.safetensors with another dtype or shape");
        constant.data = array->second.bytes.data();
        constant.size_bytes = array->second.bytes.size();
        constants.push_back(std::move(constant));
    }
    require(constants.size() == arrays.size(), "weights.safetensors holds an array that is no constant of the graph");
    return constants;
}

Graph read_graph(const Json& file, const std::vector<Constant>& constants) {
    OpReader::ConstantNames known;
    for (const Constant& constant : constants) known.emplace(constant.name, &constant);
    Members members(file, "graph.json");
    members.required("constants");

    std::unordered_map<std::string, Tensor> described;
    for (const Json& entry : members.required("tensors").array("tensors")) {
        Tensor tensor = read_tensor(entry);
        const std::string name = tensor.name;
        require(described.emplace(name, std::move(tensor)).second, "two tensors are called " + name);
    }

    Graph graph;
    OpReader::Names computed;
    for (const Json& entry : members.required("ops").array("ops")) {
        OpReader op(entry, computed, known);
        const auto tensor = described.find(op.output());
        require(tensor != described.end() && op.output() != "tokens",
                op.where() + " has no tensor, or is computed twice");
        const int number = static_cast<int>(graph.tensors.size());
        graph.ops.push_back(read_op(op, number));
        computed.emplace(op.output(), number);
        graph.tensors.push_back(std::move(tensor->second));
        described.erase(tensor);
    }
    require(described.empty(), "a tensor is computed by no operation");

    for (const Json& entry : members.required("caches").array("caches")) {
        Members cache(entry, "a cache");
        const auto find = [&](const char* name) {
            const auto found = known.find(cache.required(name).string("a cache"));
            require(found != known.end() && found->second->dtype == DType::uint8,
                    "the entries of a cache must be uint8");
            return found->second;
        };
        graph.caches.push_back({cache.required("num_kv_heads").integer("num_kv_heads"),
                                cache.required("head_dim").integer("head_dim"), find("keys"), find("values")});
        cache.done();
    }

    const auto output = computed.find(members.required("output").string("output"));
    require(output != computed.end(), "no operation computes the output");
    graph.output = output->second;
    graph.vocab_size = members.required("vocab_size").integer("vocab_size");
    graph.context = members.required("context").integer("context");
    graph.num_prefix = members.required("num_prefix").integer("num_prefix");
    for (const Json& token : members.required("prefix_tokens").array("prefix_tokens"))
        graph.prefix_tokens.push_back(integer32(token, "a prefix token"));
    members.done();
    return graph;
}

}  // namespace mobilequant
