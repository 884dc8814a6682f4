#include <cstdint>

#include "kernels/kernels.h"

namespace mobilequant::scalar {
#include "kernels/elementwise.inl"
#include "kernels/elementwise_table.inl"
}  // namespace mobilequant::scalar
