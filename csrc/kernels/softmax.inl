// Softmax of the scores that a token sees. `exponentials` and `shares` are what a file for a processor may replace.

// Exponentials of the distances from the largest score; their sum.
template <class In>
static std::int64_t exponentials(const In* __restrict x, std::int32_t largest, std::int32_t* __restrict e,
                                 std::int64_t count, const SoftmaxKernel op) {
    std::int64_t total = 0;
    for (std::int64_t i = 0; i < count; ++i) e[i] = exponential(largest - x[i], op), total += e[i];
    return total;
}

// min(⌊e · reciprocal / 2^m + 1/2⌋, qmax) of numbers below 2^31, with a product below 2^62 and m of 34 to 62.
static void shares(const std::int32_t* __restrict e, std::uint8_t* __restrict p, std::int64_t count,
                   std::int64_t reciprocal, int m, std::int32_t qmax) {
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t probability = (e[i] * reciprocal + (std::int64_t{1} << (m - 1))) >> m;
        p[i] = static_cast<std::uint8_t>(probability > qmax ? qmax : probability);
    }
}
