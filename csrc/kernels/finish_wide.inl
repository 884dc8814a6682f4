// What follows the sums of a matrix product (ChannelFactors of kernels/operation.h), for processors without a file of
// their own.

// A product is below 2^62: raised by that it is positive, and a shift of unsigned numbers, which all vectors have,
// rounds it down as a shift of signed ones does, which AVX2 lacks.
template <class Out>
static void finish_wide(const SumRows in, std::byte* y, std::ptrdiff_t stride, const ChannelFactors op) {
    constexpr std::uint64_t kRaise = std::uint64_t{1} << 62;
    for (int r = 0; r < in.rows; ++r, y += stride) {
        const std::int32_t* sums = in.first + r * in.stride;
        for (int i = 0; i < in.channels; ++i) {
            const auto sum =
                static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[i]) + static_cast<std::uint32_t>(op.bias[i]));
            const std::uint64_t shift = op.shift[i], half = std::uint64_t{1} << shift >> 1;
            const std::uint64_t raised = static_cast<std::uint64_t>(std::int64_t{sum} * op.mantissa[i]) + half + kRaise;
            const auto value = static_cast<std::int64_t>((raised >> shift) - (kRaise >> shift));
            reinterpret_cast<Out*>(y)[i] = saturate<Out>(value, op.to);
        }
    }
}
