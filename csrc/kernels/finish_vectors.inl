// finish_narrow in the lanes of the including file: kLanes channels at a time, their factors in registers for all rows.

template <class Out>
static void finish_narrow(const SumRows in, std::byte* y, std::ptrdiff_t stride, const ChannelFactors op) {
    const Saturation saturation(op.to);
    const Lanes one = set32(1);
    for (int first = 0; first < in.channels; first += kLanes) {
        const Lanes bias = load32(op.bias + first), raise = load8(op.raise + first), shift = load8(op.shift + first);
        const Multiplier mantissa(load32(op.mantissa + first));
        const Lanes half = shift_left(one, sub(shift, one));
        const int count = in.channels - first < kLanes ? in.channels - first : kLanes;
        for (int r = 0; r < in.rows; ++r) {
            const Lanes sum = shift_left(add(load32(in.first + r * in.stride + first), bias), raise);
            const Lanes code = saturation(shift_right(add(high_products(sum, mantissa), half), shift));
            auto* out = reinterpret_cast<Out*>(y + r * stride) + first;
            if (count == kLanes) {
                store_codes(out, code);
            } else {
                Out part[kLanes];
                store_codes(part, code);
                for (int i = 0; i < count; ++i) out[i] = part[i];
            }
        }
    }
}
