// Steps that members divide by output channels: matrix products, and what can be done with some channels at once.
//
// gate and up of an MLP, the activation function and their product are one such step: each member computes the same
// panel of both matrices, and only the product of the two leaves its cache.
#pragma once

#include <memory>
#include <variant>
#include <vector>

#include "runtime/matrix_store.h"
#include "runtime/steps/product.h"

namespace mobilequant {

// In running order; the output of the last is the output of the step.
using ChannelOps = std::vector<std::variant<const Linear*, const Table*, const Multiply*>>;

std::unique_ptr<Step> make_channels(const ChannelOps& ops, const Site& site, const MatrixStore& matrices);

}  // namespace mobilequant
