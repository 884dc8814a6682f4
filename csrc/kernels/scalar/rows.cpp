// Every operation on rows as plain loops; what the compiler makes of them is also what Arm processors run.
#include <cstdint>

#include "kernels/kernels.h"

namespace mobilequant::scalar {
#include "kernels/scalar/no_vectors.inl"
// after what it calls
#include "kernels/elementwise.inl"
#include "kernels/finish_wide.inl"
#include "kernels/finish_narrow.inl"
#include "kernels/softmax.inl"
#include "kernels/softmax_row.inl"
#include "kernels/elementwise_table.inl"
}  // namespace mobilequant::scalar
