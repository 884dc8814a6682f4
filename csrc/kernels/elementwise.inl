// Operations on rows of codes, written once as docs/integer-semantics.md says them. Each kernels/*.cpp includes this
// file in a namespace of its own and compiles it for its instructions: the same integers by construction, at the speed
// of the vectors that the compiler makes of it. Nothing here may call templates of the standard library: their code
// would be shared between processors. Parameters come by value, so that the compiler knows that no output changes them.
//
// A file for a processor defines …_vectors functions that do the first elements and say how many; loops here do the
// rest.

// |value| < 2^31; the result may need 60 bits.
static inline std::int64_t rescale(std::int64_t value, const Factor& by) {
    return (value * by.mantissa + by.half) >> by.shift;
}

template <class Code>
static inline Code saturate(std::int64_t value, const Format& to) {
    const std::int64_t code = value + to.zero_point;
    return static_cast<Code>(code < to.qmin ? to.qmin : code > to.qmax ? to.qmax : code);
}

template <class Code>
static inline Code requantize(std::int64_t value, const Factor& by, const Format& to) {
    return saturate<Code>(rescale(value, by), to);
}

// ── norm ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

// ⌊√value⌋ of [2^60, 2^62). The square root of a double is off by one at most.
static inline std::int64_t integer_sqrt(std::int64_t value) {
    std::int64_t root = static_cast<std::int64_t>(__builtin_sqrt(static_cast<double>(value)));
    root -= root * root > value;
    return root + ((root + 1) * (root + 1) <= value);
}

// For q in [1, 2^62): 1/√q = inverse · 2^(k − 61).
struct InverseRoot {
    std::int64_t inverse;
    int k;
};

static inline InverseRoot inverse_root(std::int64_t q) {
    const int bits = 64 - __builtin_clzll(static_cast<unsigned long long>(q)), k = (62 - bits) / 2;
    return {(std::int64_t{1} << 61) / integer_sqrt(q << 2 * k), k};
}

// |n·value| ≤ √(n·q), so that with the raise of k − 12 bits it has no more than 27. Only a sum is taken from it where
// the mean is.
static inline bool narrow_norm(std::int64_t inverse, const NormKernel& op) {
    return inverse < std::int64_t{1} << 31 && !op.subtract_mean;
}

template <class In, class Out>
static void norm_group(const In* __restrict x, Out* __restrict y, const NormKernel op) {
    const std::int64_t n = op.group;
    std::int64_t sum = 0, squares = 0;
    for (int i = norm_sum_vectors(x, op, sum, squares); i < op.group; ++i) {
        const std::int64_t value = (std::int64_t{x[i]} - op.zero_point) << op.exponent[i];
        sum += value, squares += value * value;
    }
    const std::int64_t mean = op.subtract_mean ? sum : 0, q = n * squares - mean * mean + op.epsilon;
    const auto [inverse, k] = inverse_root(q < 1 ? 1 : q);
    const Factor standardize{inverse, std::int64_t{1} << (44 - k), 45 - k, narrow_norm(inverse, op),
                             k > 12 ? k - 12 : 0};
    for (int i = norm_vectors(x, y, standardize, op); i < op.group; ++i) {
        const std::int64_t centred = n * ((std::int64_t{x[i]} - op.zero_point) << op.exponent[i]) - mean;
        const std::int64_t scaled = (rescale(centred, standardize) * op.gain[i] + (1 << 14)) >> 15;
        y[i] = requantize<Out>(scaled + op.bias[i], op.by, op.to);
    }
}

// ── rope ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

template <class In, class Out>
static void rope_head(const In* __restrict x, Out* __restrict y, std::int64_t position, const RopeKernel op) {
    const std::int16_t *cos = op.cos + position * op.half, *sin = op.sin + position * op.half;
    for (int i = rope_vectors(x, y, cos, sin, op); i < op.half; ++i) {
        const std::int64_t a = std::int64_t{x[i]} - op.zero_point, b = std::int64_t{x[i + op.half]} - op.zero_point;
        y[i] = requantize<Out>(a * cos[i] - b * sin[i], op.by, op.to);
        y[i + op.half] = requantize<Out>(b * cos[i] + a * sin[i], op.by, op.to);
    }
    for (int i = 2 * op.half; i < op.head_dim; ++i)
        y[i] = requantize<Out>((std::int64_t{x[i]} - op.zero_point) << 14, op.by, op.to);
}

// ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

template <class Out>
static void table8(const std::uint8_t* __restrict x, Out* __restrict y, std::int64_t count,
                   const Out* __restrict table) {
    for (std::int64_t i = table8_vectors(x, y, count, table); i < count; ++i) y[i] = table[x[i]];
}

// Entries for a uint8 output carry 7 bits of fraction.
template <class Out>
static void table16(const std::int16_t* __restrict x, Out* __restrict y, std::int64_t count,
                    const std::int16_t* __restrict table) {
    constexpr int kShift = sizeof(Out) == 1 ? 14 : 7;
    for (std::int64_t i = 0; i < count; ++i) {
        const int place = (x[i] + (1 << 15)) >> 7, fraction = x[i] & 127, low = table[place];
        y[i] = static_cast<Out>((low * 128 + (table[place + 1] - low) * fraction + (1 << (kShift - 1))) >> kShift);
    }
}

// ── elementwise ──────────────────────────────────────────────────────────────────────────────────────────────────────

template <class A, class B, class Out>
static void multiply(const A* __restrict a, const B* __restrict b, Out* __restrict y, std::int64_t count,
                     const MultiplyKernel op) {
    for (std::int64_t i = multiply_vectors(a, b, y, count, op); i < count; ++i) {
        const std::int64_t product = (std::int64_t{a[i]} - op.zero_point_a) * (std::int64_t{b[i]} - op.zero_point_b);
        y[i] = requantize<Out>(product, op.by, op.to);
    }
}

template <class A, class B, class Out>
static void add(const A* __restrict a, const B* __restrict b, Out* __restrict y, std::int64_t count,
                const AddKernel op) {
    for (std::int64_t i = add_vectors(a, b, y, count, op); i < count; ++i) {
        const std::int64_t sum = rescale(std::int64_t{a[i]} - op.zero_point_a, op.by_a) +
                                 rescale(std::int64_t{b[i]} - op.zero_point_b, op.by_b);
        y[i] = requantize<Out>(sum, op.by, op.to);
    }
}

// ── softmax: one exponential ─────────────────────────────────────────────────────────────────────────────────────────

// 2^16 · 2^(−distance) in the steps of the scores.
static inline std::int32_t exponential(std::int32_t distance, const SoftmaxKernel& op) {
    const std::int64_t t = rescale(distance, op.by), octaves = t >> 8;
    const int down = octaves > 17 ? 17 : static_cast<int>(octaves);
    return (op.table[t & 255] + ((1 << down) >> 1)) >> down;
}
