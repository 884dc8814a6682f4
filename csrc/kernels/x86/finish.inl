// finish_narrow in the lanes of the including file: kLanes channels at a time, their factors in registers for all rows.

template <class Out>
static void finish_narrow(const SumRows in, std::byte* y, std::ptrdiff_t stride, const ChannelFactors op) {
    const Lanes low = set32(op.to.qmin - op.to.zero_point), high = set32(op.to.qmax - op.to.zero_point);
    const Lanes zero_point = set32(op.to.zero_point), one = set32(1);
    for (int first = 0; first < in.channels; first += kLanes) {
        const Lanes bias = load32(op.bias + first), raise = load8(op.raise + first), shift = load8(op.shift + first);
        const Lanes mantissa = load32(op.mantissa + first), odd_mantissa = odd(mantissa);
        const Lanes half = shift_left(one, sub(shift, one));
        const int count = in.channels - first < kLanes ? in.channels - first : kLanes;
        for (int r = 0; r < in.rows; ++r) {
            const Lanes sum = shift_left(add(load32(in.first + r * in.stride + first), bias), raise);
            const Lanes product = merge_high(multiply_even(sum, mantissa), multiply_even(odd(sum), odd_mantissa));
            const Lanes code = min(max(shift_right(add(product, half), shift), low), high);
            auto* out = reinterpret_cast<Out*>(y + r * stride) + first;
            if (count == kLanes) {
                store_codes(out, add(code, zero_point));
            } else {
                Out part[kLanes];
                store_codes(part, add(code, zero_point));
                for (int i = 0; i < count; ++i) out[i] = part[i];
            }
        }
    }
}
