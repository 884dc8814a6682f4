#include "runtime/steps/rowwise.h"

#include <algorithm>
#include <cstdlib>

#include "graph/codes.h"

namespace mobilequant {
namespace {

class Rowwise : public Step {
  public:
    bool by_rows() const final { return true; }

    void run(const Call& call, const Member& member) const final {
        const auto [first, last] = call.rows_of(member);
        for (std::int64_t row = first; row < last; ++row) run_row(call, row, member);
    }

    virtual void run_row(const Call& call, std::int64_t row, const Member& member) const = 0;
};

std::int64_t largest(Array table) {
    const auto* entries = table->as<std::int16_t>();
    std::int64_t found = 0;
    for (std::size_t i = 0; i < table->size_bytes / sizeof *entries; ++i)
        found = std::max<std::int64_t>(found, std::abs(entries[i]));
    return found;
}

// Of the sum of what an addition rescales.
std::int64_t largest_sum(const Add& op, const Site& site) {
    const auto term = [&](int input, const Rescale& by) {
        return (reach(site.tensor(input)) * by.mantissa >> by.shift) + 1;
    };
    return term(op.a, op.rescale_a) + term(op.b, op.rescale_b);
}

// Of what a norm rescales last: the bias, and a gain times a unit of at most √n, both with 16 bits of fraction.
constexpr std::int64_t kLargestNorm = (std::int64_t{1} << 30) + (std::int64_t{1} << 24);

// The entries of an optional constant, or as many zeros.
template <class Value>
std::vector<Value> entries(Array constant, std::int64_t count) {
    if (!constant) return std::vector<Value>(static_cast<std::size_t>(count));
    return {constant->as<Value>(), constant->as<Value>() + count};
}

class EmbeddingStep final : public Rowwise {
  public:
    EmbeddingStep(const Embedding& op, const Site& site, const PackedMatrix* tied)
        : op_(op),
          to_(site.place(op.output)),
          format_(site.format(op.output)),
          byte_(site.type(op.output) == 0),
          tied_(tied),
          channels_(op.codes->shape[1]),
          exponent_(entries<std::uint8_t>(op.exponent, channels_)),
          position_exponent_(entries<std::uint8_t>(op.position_exponent, channels_)) {}

    std::size_t scratch_bytes(std::int64_t) const override { return static_cast<std::size_t>(channels_); }

    void run_row(const Call& call, std::int64_t row, const Member& member) const override {
        std::byte* out = call.row(to_, row, member);
        const std::int64_t token = call.tokens[row], position = call.position + row;
        auto* codes = reinterpret_cast<std::int8_t*>(call.workspace.scratch(member.index()));
        tied_ ? tied_->unpack_row(token, codes) : read_row(*op_.codes, token, codes);
        for (std::int64_t c = 0; c < channels_; ++c) {
            const auto channel = static_cast<std::size_t>(c);
            std::int64_t value = rescaled(codes[c], op_.rescale, token, exponent_[channel]) + format_.zero_point;
            if (op_.position_codes) {
                const std::int8_t code = op_.position_codes->as<std::int8_t>()[position * channels_ + c];
                value += rescaled(code, op_.position_rescale, position, position_exponent_[channel]);
            }
            value = std::clamp<std::int64_t>(value, format_.qmin, format_.qmax);
            if (byte_)
                reinterpret_cast<std::uint8_t*>(out)[c] = static_cast<std::uint8_t>(value);
            else
                reinterpret_cast<std::int16_t*>(out)[c] = static_cast<std::int16_t>(value);
        }
    }

  private:
    static std::int64_t rescaled(std::int64_t code, const RowRescale& by, std::int64_t row, int exponent) {
        const int shift = by.shift->as<std::int8_t>()[row] + exponent;
        return (code * by.mantissa->as<std::int32_t>()[row] + (std::int64_t{1} << (shift - 1))) >> shift;
    }

    Embedding op_;
    Place to_;
    Format format_;
    bool byte_;
    const PackedMatrix* tied_;
    std::int64_t channels_;
    std::vector<std::uint8_t> exponent_, position_exponent_;
};

class NormStep final : public Rowwise {
  public:
    NormStep(const Norm& op, const Site& site)
        : exponent_(entries<std::uint8_t>(op.exponent, op.group)),
          bias_(entries<std::int32_t>(op.bias, op.group)),
          gain_(entries<std::int16_t>(op.gain, op.group)),
          from_(site.place(op.input)),
          to_(site.place(op.output)),
          from_bytes_(site.tensor(op.input).code_bytes()),
          to_bytes_(site.tensor(op.output).code_bytes()),
          groups_(site.tensor(op.output).channels / op.group),
          kernel_(site.kernels.rows->norm[site.type(op.input)][site.type(op.output)]),
          op_{site.tensor(op.input).zero_point,
              exponent_.data(),
              gain_.data(),
              bias_.data(),
              op.epsilon,
              op.subtract_mean,
              static_cast<std::int32_t>(op.group),
              factor(op.rescale, kLargestNorm),
              site.format(op.output)} {}

    void run_row(const Call& call, std::int64_t row, const Member& member) const override {
        const std::byte* x = call.row(from_, row, member);
        std::byte* y = call.row(to_, row, member);
        const auto group = static_cast<std::size_t>(op_.group);
        for (std::int64_t g = 0; g < groups_; ++g, x += group * from_bytes_, y += group * to_bytes_) kernel_(x, y, op_);
    }

  private:
    std::vector<std::uint8_t> exponent_;
    std::vector<std::int32_t> bias_;
    std::vector<std::int16_t> gain_;
    Place from_, to_;
    std::size_t from_bytes_, to_bytes_;
    std::int64_t groups_;
    void (*kernel_)(const void*, void*, const NormKernel&);
    NormKernel op_;
};

class RopeStep final : public Rowwise {
  public:
    RopeStep(const Rope& op, const Site& site)
        : from_(site.place(op.input)),
          to_(site.place(op.output)),
          from_bytes_(site.tensor(op.input).code_bytes()),
          to_bytes_(site.tensor(op.output).code_bytes()),
          heads_(site.tensor(op.output).channels / op.head_dim),
          kernel_(site.kernels.rows->rope[site.type(op.input)][site.type(op.output)]),
          op_{site.tensor(op.input).zero_point,
              static_cast<std::int32_t>(op.cos->shape[1]),
              static_cast<std::int32_t>(op.head_dim),
              op.cos->as<std::int16_t>(),
              op.sin->as<std::int16_t>(),
              factor(op.rescale, reach(site.tensor(op.input)) * (largest(op.cos) + largest(op.sin))),
              site.format(op.output)} {}

    void run_row(const Call& call, std::int64_t row, const Member& member) const override {
        const std::byte* x = call.row(from_, row, member);
        std::byte* y = call.row(to_, row, member);
        const auto dims = static_cast<std::size_t>(op_.head_dim);
        for (std::int64_t h = 0; h < heads_; ++h, x += dims * from_bytes_, y += dims * to_bytes_)
            kernel_(x, y, call.position + row, op_);
    }

  private:
    Place from_, to_;
    std::size_t from_bytes_, to_bytes_;
    std::int64_t heads_;
    void (*kernel_)(const void*, void*, std::int64_t, const RopeKernel&);
    RopeKernel op_;
};

class TableStep final : public Rowwise {
  public:
    TableStep(const Table& op, const Site& site)
        : from_(site.place(op.input)),
          to_(site.place(op.output)),
          channels_(site.tensor(op.output).channels),
          kernel_(site.kernels.rows->table[site.type(op.input)][site.type(op.output)]),
          table_(op.table->data) {}

    void run_row(const Call& call, std::int64_t row, const Member& member) const override {
        kernel_(call.row(from_, row, member), call.row(to_, row, member), channels_, table_);
    }

  private:
    Place from_, to_;
    std::int64_t channels_;
    void (*kernel_)(const void*, void*, std::int64_t, const void*);
    const void* table_;
};

class MultiplyStep final : public Rowwise {
  public:
    MultiplyStep(const Multiply& op, const Site& site)
        : a_(site.place(op.a)),
          b_(site.place(op.b)),
          to_(site.place(op.output)),
          channels_(site.tensor(op.output).channels),
          kernel_(site.kernels.rows->multiply[site.type(op.a)][site.type(op.b)][site.type(op.output)]),
          op_{site.tensor(op.a).zero_point, site.tensor(op.b).zero_point,
              factor(op.rescale, reach(site.tensor(op.a)) * reach(site.tensor(op.b))), site.format(op.output)} {}

    void run_row(const Call& call, std::int64_t row, const Member& member) const override {
        kernel_(call.row(a_, row, member), call.row(b_, row, member), call.row(to_, row, member), channels_, op_);
    }

  private:
    Place a_, b_, to_;
    std::int64_t channels_;
    void (*kernel_)(const void*, const void*, void*, std::int64_t, const MultiplyKernel&);
    MultiplyKernel op_;
};

class AddStep final : public Rowwise {
  public:
    AddStep(const Add& op, const Site& site)
        : a_(site.place(op.a)),
          b_(site.place(op.b)),
          to_(site.place(op.output)),
          channels_(site.tensor(op.output).channels),
          kernel_(site.kernels.rows->add[site.type(op.a)][site.type(op.b)][site.type(op.output)]),
          op_{site.tensor(op.a).zero_point,
              site.tensor(op.b).zero_point,
              factor(op.rescale_a, reach(site.tensor(op.a))),
              factor(op.rescale_b, reach(site.tensor(op.b))),
              factor(op.rescale, largest_sum(op, site)),
              site.format(op.output)} {}

    void run_row(const Call& call, std::int64_t row, const Member& member) const override {
        kernel_(call.row(a_, row, member), call.row(b_, row, member), call.row(to_, row, member), channels_, op_);
    }

  private:
    Place a_, b_, to_;
    std::int64_t channels_;
    void (*kernel_)(const void*, const void*, void*, std::int64_t, const AddKernel&);
    AddKernel op_;
};

}  // namespace

std::int64_t reach(const Tensor& tensor) {
    return std::max(tensor.qmax - tensor.zero_point, tensor.zero_point - tensor.qmin);
}

std::unique_ptr<Step> make_embedding(const Embedding& op, const Site& site, const PackedMatrix* tied) {
    return std::make_unique<EmbeddingStep>(op, site, tied);
}

std::unique_ptr<Step> make_norm(const Norm& op, const Site& site) { return std::make_unique<NormStep>(op, site); }
std::unique_ptr<Step> make_rope(const Rope& op, const Site& site) { return std::make_unique<RopeStep>(op, site); }
std::unique_ptr<Step> make_table(const Table& op, const Site& site) { return std::make_unique<TableStep>(op, site); }
std::unique_ptr<Step> make_multiply(const Multiply& op, const Site& site) {
    return std::make_unique<MultiplyStep>(op, site);
}
std::unique_ptr<Step> make_add(const Add& op, const Site& site) { return std::make_unique<AddStep>(op, site); }

}  // namespace mobilequant
