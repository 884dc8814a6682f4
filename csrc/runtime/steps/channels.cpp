#include "runtime/steps/channels.h"

#include <algorithm>
#include <map>

namespace mobilequant {
namespace {

// A few rows of one panel, or a few panels of a single row: weights come from memory without a pause while sums wait.
struct Block {
    std::int64_t panel, row;
    int panels, count;
};

// Sums and codes of a block.
struct alignas(64) Sums {
    std::int32_t of[kMaxTileRows * kPanelChannels];
};
struct alignas(64) Segment {
    std::byte codes[kMaxTileRows][kPanelChannels * 2];
};
constexpr int kPanelsOfRow = 8;
static_assert(kPanelsOfRow <= kMaxTileRows);

// Where an operation works: in a segment, or in the rows of the step's output.
struct Target {
    std::byte* first;
    std::ptrdiff_t stride;
    std::byte* row(int number) const { return first + number * stride; }
};

class ChannelStep final : public Step {
  public:
    ChannelStep(const ChannelOps& ops, const Site& site, const MatrixStore& matrices) {
        for (const auto& op : ops) {
            if (const auto* linear = std::get_if<const Linear*>(&op)) {
                products_.emplace_back(**linear, site, matrices.of(**linear));
                add(Sum{products_.size() - 1}, (*linear)->output, site);
            } else if (const auto* table = std::get_if<const Table*>(&op)) {
                const auto& found = **table;
                auto* kernel = site.kernels.rows->table[site.type(found.input)][site.type(found.output)];
                add(Look{segments_.at(found.input), kernel, found.table->data}, found.output, site);
            } else {
                const Multiply& found = **std::get_if<const Multiply*>(&op);
                auto* kernel =
                    site.kernels.rows->multiply[site.type(found.a)][site.type(found.b)][site.type(found.output)];
                const MultiplyKernel how = {
                    site.tensor(found.a).zero_point, site.tensor(found.b).zero_point,
                    factor(found.rescale, reach(site.tensor(found.a)) * reach(site.tensor(found.b))),
                    site.format(found.output)};
                add(Times{segments_.at(found.a), segments_.at(found.b), kernel, how}, found.output, site);
            }
        }
        max_rows_ = products_.front().max_rows();
        for (const Product& product : products_) max_rows_ = std::min(max_rows_, product.max_rows());
    }

    bool by_rows() const override { return false; }

    void run(const Call& call, const Member& member) const override {
        const auto [first, last] = member.share(products_.front().panels());
        if (first == last) return;
        std::vector<Product::Prepared> prepared;
        for (const Product& product : products_) prepared.push_back(product.prepare(call, member));
        const int panels = call.rows - call.first == 1 ? kPanelsOfRow : 1;
        for (std::int64_t panel = first; panel < last; panel += panels)
            for (std::int64_t row = call.first; row < call.rows; row += max_rows_)
                run_block(call, member, prepared,
                          {panel, row, static_cast<int>(std::min<std::int64_t>(panels, last - panel)),
                           static_cast<int>(std::min<std::int64_t>(max_rows_, call.rows - row))});
    }

  private:
    static constexpr std::size_t kMaxSegments = 4;

    struct Sum {
        std::size_t product;
    };
    struct Look {
        std::size_t from;
        void (*kernel)(const void*, void*, std::int64_t, const void*);
        const void* table;
    };
    struct Times {
        std::size_t a, b;
        void (*kernel)(const void*, const void*, void*, std::int64_t, const MultiplyKernel&);
        MultiplyKernel how;
    };

    template <class Work>
    void add(Work work, int output, const Site& site) {
        segments_[output] = work_.size();
        work_.push_back(work);
        to_ = site.place(output);
        code_bytes_ = static_cast<std::int64_t>(site.tensor(output).code_bytes());
    }

    void run_block(const Call& call, const Member& member, const std::vector<Product::Prepared>& prepared,
                   const Block& block) const {
        Sums sums[kMaxSegments];
        for (int panel = 0; panel < block.panels; ++panel)
            for (std::size_t number = 0; number < products_.size(); ++number)
                products_[number].sum(call, member, prepared[number], block.panel + panel, block.row, block.count,
                                      sums[number].of + panel * kPanelChannels);
        const std::int64_t channel = block.panel * kPanelChannels;
        const auto channels = static_cast<int>(
            std::min<std::int64_t>(block.panels * kPanelChannels, products_.front().channels() - channel));
        const Target out = {call.row(to_, block.row, member) + channel * code_bytes_,
                            static_cast<std::ptrdiff_t>(to_.stride)};
        Segment segments[kMaxSegments];
        for (std::size_t number = 0; number < work_.size(); ++number) {
            const bool last = number + 1 == work_.size();
            const Target target = last ? out : Target{segments[number].codes[0], sizeof segments[number].codes[0]};
            if (const auto* sum = std::get_if<Sum>(&work_[number])) {
                products_[sum->product].finish(block.panel,
                                               {sums[sum->product].of, kPanelChannels, block.count, channels},
                                               target.first, target.stride);
            } else if (const auto* look = std::get_if<Look>(&work_[number])) {
                for (int r = 0; r < block.count; ++r)
                    look->kernel(segments[look->from].codes[r], target.row(r), channels, look->table);
            } else {
                const auto& times = std::get<Times>(work_[number]);
                for (int r = 0; r < block.count; ++r)
                    times.kernel(segments[times.a].codes[r], segments[times.b].codes[r], target.row(r), channels,
                                 times.how);
            }
        }
    }

    std::vector<Product> products_;
    std::vector<std::variant<Sum, Look, Times>> work_;
    std::map<int, std::size_t> segments_;  // by tensor
    Place to_{};
    std::int64_t code_bytes_ = 1;
    int max_rows_ = 1;
};

}  // namespace

std::unique_ptr<Step> make_channels(const ChannelOps& ops, const Site& site, const MatrixStore& matrices) {
    return std::make_unique<ChannelStep>(ops, site, matrices);
}

}  // namespace mobilequant
