// The first elements of the operations of kernels/elementwise.inl, in the lanes of the including file: whole vectors,
// where factors are narrow.

struct NarrowFactor {
    Multiplier mantissa;
    Lanes raise, half, shift;

    explicit NarrowFactor(const Factor& by)
        : mantissa(set32(static_cast<std::int32_t>(by.mantissa))),
          raise(set32(by.raise)),
          half(set32(1 << (by.shift + by.raise - 33))),
          shift(set32(by.shift + by.raise - 32)) {}

    Lanes operator()(Lanes value) const {
        return shift_right(add(high_products(shift_left(value, raise), mantissa), half), shift);
    }
};

struct Saturation {
    Lanes low, high, zero_point;

    explicit Saturation(const Format& to)
        : low(set32(to.qmin - to.zero_point)), high(set32(to.qmax - to.zero_point)), zero_point(set32(to.zero_point)) {}

    Lanes operator()(Lanes value) const { return add(min(max(value, low), high), zero_point); }
};

template <class In>
static int norm_sum_vectors(const In* __restrict x, const NormKernel& op, std::int64_t& sum, std::int64_t& squares) {
    if (op.subtract_mean) return 0;
    const Lanes zero_point = set32(op.zero_point);
    WideSums sums = no_sums();
    int i = 0;
    for (; i + kLanes <= op.group; i += kLanes) {
        const Lanes value = shift_left(sub(load_codes(x + i), zero_point), load8(op.exponent + i));
        sums = add_squares(sums, value);
    }
    squares += sum64_of(sums);
    static_cast<void>(sum);  // wanted with the mean only
    return i;
}

template <class In, class Out>
static int norm_vectors(const In* __restrict x, Out* __restrict y, const Factor& standardize, const NormKernel& op) {
    if (!standardize.narrow || !op.by.narrow) return 0;
    const Lanes zero_point = set32(op.zero_point), n = set32(op.group);
    const NarrowFactor standard(standardize), by(op.by);
    const Saturation saturation(op.to);
    int i = 0;
    for (; i + kLanes <= op.group; i += kLanes) {
        const Lanes value = shift_left(sub(load_codes(x + i), zero_point), load8(op.exponent + i));
        const Lanes scaled = rounded_products_15(standard(multiply32(value, n)), load_codes(op.gain + i));
        store_codes(y + i, saturation(by(add(scaled, load32(op.bias + i)))));
    }
    return i;
}

template <class In, class Out>
static int rope_vectors(const In* __restrict x, Out* __restrict y, const std::int16_t* __restrict cos,
                        const std::int16_t* __restrict sin, const RopeKernel& op) {
    if (!op.by.narrow) return 0;
    const Lanes zero_point = set32(op.zero_point);
    const NarrowFactor by(op.by);
    const Saturation saturation(op.to);
    int i = 0;
    for (; i + kLanes <= op.half; i += kLanes) {
        const Lanes a = sub(load_codes(x + i), zero_point), b = sub(load_codes(x + op.half + i), zero_point);
        const Lanes c = load_codes(cos + i), s = load_codes(sin + i);
        store_codes(y + i, saturation(by(sub(multiply32(a, c), multiply32(b, s)))));
        store_codes(y + op.half + i, saturation(by(add(multiply32(b, c), multiply32(a, s)))));
    }
    return i;
}

template <class A, class B, class Out>
static std::int64_t multiply_vectors(const A* __restrict a, const B* __restrict b, Out* __restrict y,
                                     std::int64_t count, const MultiplyKernel& op) {
    if (!op.by.narrow) return 0;
    const Lanes zero_a = set32(op.zero_point_a), zero_b = set32(op.zero_point_b);
    const NarrowFactor by(op.by);
    const Saturation saturation(op.to);
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        const Lanes product = multiply32(sub(load_codes(a + i), zero_a), sub(load_codes(b + i), zero_b));
        store_codes(y + i, saturation(by(product)));
    }
    return i;
}

template <class A, class B, class Out>
static std::int64_t add_vectors(const A* __restrict a, const B* __restrict b, Out* __restrict y, std::int64_t count,
                                const AddKernel& op) {
    if (!op.by_a.narrow || !op.by_b.narrow || !op.by.narrow) return 0;
    const Lanes zero_a = set32(op.zero_point_a), zero_b = set32(op.zero_point_b);
    const NarrowFactor by_a(op.by_a), by_b(op.by_b), by(op.by);
    const Saturation saturation(op.to);
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        const Lanes sum = add(by_a(sub(load_codes(a + i), zero_a)), by_b(sub(load_codes(b + i), zero_b)));
        store_codes(y + i, saturation(by(sum)));
    }
    return i;
}
