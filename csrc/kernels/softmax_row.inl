// Probabilities of `count` visible scores. Where the sum is small enough, the division is a multiplication, and still
// exact: with m = 18 + bits(Σ) and R = ⌈one·2^m/Σ⌉, e·R exceeds e·one·2^m/Σ by less than e < 2^17, and the next
// multiple of 2^m that it could reach is 2^m/(2Σ) > 2^17 away. The largest score has an exponential of 2^16, so that m
// is 35 or more.
template <class In, class Out>
static void softmax(const In* __restrict x, Out* __restrict p, std::int32_t* __restrict e, std::int64_t count,
                    const SoftmaxKernel op) {
    In highest = x[0];
    for (std::int64_t i = 1; i < count; ++i) highest = x[i] > highest ? x[i] : highest;
    const std::int64_t total = exponentials(x, highest, e, count, op);
    if constexpr (sizeof(Out) == 1) {
        if (total < std::int64_t{1} << 36) {
            const int m = 18 + 64 - __builtin_clzll(static_cast<unsigned long long>(total));
            return shares(e, p, count, ((std::int64_t{256} << m) + total - 1) / total, m, op.qmax);
        }
    }
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t probability = (2 * std::int64_t{op.one} * e[i] + total) / (2 * total);
        p[i] = static_cast<Out>(probability > op.qmax ? op.qmax : probability);
    }
}
