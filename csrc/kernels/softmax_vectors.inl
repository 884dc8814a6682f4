// exponentials and shares of kernels/softmax.inl in the lanes of the including file.

template <class In>
static std::int64_t exponentials(const In* __restrict x, std::int32_t largest, std::int32_t* __restrict e,
                                 std::int64_t count, const SoftmaxKernel op) {
    constexpr std::int64_t kBlock = 2048 * kLanes;  // of 2^16 each: the sum of all lanes fits 32 bits
    const Lanes highest = set32(largest), one = set32(1), octave = set32(8), most = set32(17);
    std::int64_t total = 0, i = 0;
    if (op.by.narrow && op.entries) {
        const NarrowFactor by(op.by);
        const Entries entries(op.entries);
        for (std::int64_t start = 0; start + kLanes <= count; start = i) {
            const std::int64_t end = start + kBlock < count ? start + kBlock : count;
            Lanes sum = set32(0);
            for (i = start; i + kLanes <= end; i += kLanes) {
                const Lanes t = by(sub(highest, load_codes(x + i))), down = min(shift_right(t, octave), most);
                const Lanes rounding = shift_right(shift_left(one, down), one);
                const Lanes power = shift_right(add(add(entries.at(t), one), rounding), down);
                store32(e + i, power);
                sum = add(sum, power);
            }
            total += sum_of(sum);
        }
    }
    for (; i < count; ++i) e[i] = exponential(largest - x[i], op), total += e[i];
    return total;
}

static void shares(const std::int32_t* __restrict e, std::uint8_t* __restrict p, std::int64_t count,
                   std::int64_t reciprocal, int m, std::int32_t qmax) {
    const Multiplier factor(set32(static_cast<std::int32_t>(reciprocal)));
    const Lanes shift = set32(m - 32), most = set32(qmax);
    const Lanes half = set32(1 << (m - 33));
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        const Lanes power = load32(e + i);
        store_codes(p + i, min(shift_right(add(high_products(power, factor), half), shift), most));
    }
    for (; i < count; ++i) {
        const std::int64_t probability = (e[i] * reciprocal + (std::int64_t{1} << (m - 1))) >> m;
        p[i] = static_cast<std::uint8_t>(probability > qmax ? qmax : probability);
    }
}
