#include <cstdint>

#include "kernels/kernels.h"

namespace mobilequant::avx512 {
#include "kernels/elementwise.inl"
#include "kernels/elementwise_table.inl"
}  // namespace mobilequant::avx512
