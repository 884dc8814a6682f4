template <class Out>
static void finish_narrow(const SumRows in, std::byte* y, std::ptrdiff_t stride, const ChannelFactors op) {
    const std::int32_t low = op.to.qmin - op.to.zero_point, high = op.to.qmax - op.to.zero_point;
    for (int r = 0; r < in.rows; ++r, y += stride) {
        const std::int32_t* sums = in.first + r * in.stride;
        Out* out = reinterpret_cast<Out*>(y);
        for (int i = 0; i < in.channels; ++i) {
            const std::uint32_t sum = static_cast<std::uint32_t>(sums[i]) + static_cast<std::uint32_t>(op.bias[i]);
            const std::int64_t product = std::int64_t{static_cast<std::int32_t>(sum << op.raise[i])} * op.mantissa[i];
            const std::int32_t code =
                (static_cast<std::int32_t>(product >> 32) + (1 << (op.shift[i] - 1))) >> op.shift[i];
            out[i] = static_cast<Out>((code < low ? low : code > high ? high : code) + op.to.zero_point);
        }
    }
}
