// The templates of elementwise.inl as a table of functions.

template <class In, class Out>
static void norm_of(const void* x, void* y, const NormKernel& op) {
    norm_group(static_cast<const In*>(x), static_cast<Out*>(y), op);
}

template <class In, class Out>
static void rope_of(const void* x, void* y, std::int64_t position, const RopeKernel& op) {
    rope_head(static_cast<const In*>(x), static_cast<Out*>(y), position, op);
}

template <class Out>
static void table8_of(const void* x, void* y, std::int64_t count, const void* table) {
    table8(static_cast<const std::uint8_t*>(x), static_cast<Out*>(y), count, static_cast<const Out*>(table));
}

template <class Out>
static void table16_of(const void* x, void* y, std::int64_t count, const void* table) {
    table16(static_cast<const std::int16_t*>(x), static_cast<Out*>(y), count, static_cast<const std::int16_t*>(table));
}

template <class A, class B, class Out>
static void multiply_of(const void* a, const void* b, void* y, std::int64_t count, const MultiplyKernel& op) {
    multiply(static_cast<const A*>(a), static_cast<const B*>(b), static_cast<Out*>(y), count, op);
}

template <class A, class B, class Out>
static void add_of(const void* a, const void* b, void* y, std::int64_t count, const AddKernel& op) {
    add(static_cast<const A*>(a), static_cast<const B*>(b), static_cast<Out*>(y), count, op);
}

template <class Out>
static void finish_of(const SumRows& sums, void* y, std::ptrdiff_t stride, const ChannelFactors& op) {
    if (op.narrow)
        finish_narrow<Out>(sums, static_cast<std::byte*>(y), stride, op);
    else
        finish_wide<Out>(sums, static_cast<std::byte*>(y), stride, op);
}

template <class In, class Out>
static void softmax_of(const void* x, void* p, std::int32_t* e, std::int64_t count, const SoftmaxKernel& op) {
    softmax(static_cast<const In*>(x), static_cast<Out*>(p), e, count, op);
}

using Byte = std::uint8_t;
using Word = std::int16_t;

extern const Elementwise kElementwise;
const Elementwise kElementwise = {
    {{norm_of<Byte, Byte>, norm_of<Byte, Word>}, {norm_of<Word, Byte>, norm_of<Word, Word>}},
    {{rope_of<Byte, Byte>, rope_of<Byte, Word>}, {rope_of<Word, Byte>, rope_of<Word, Word>}},
    {{table8_of<Byte>, table8_of<Word>}, {table16_of<Byte>, table16_of<Word>}},
    {{{multiply_of<Byte, Byte, Byte>, multiply_of<Byte, Byte, Word>},
      {multiply_of<Byte, Word, Byte>, multiply_of<Byte, Word, Word>}},
     {{multiply_of<Word, Byte, Byte>, multiply_of<Word, Byte, Word>},
      {multiply_of<Word, Word, Byte>, multiply_of<Word, Word, Word>}}},
    {{{add_of<Byte, Byte, Byte>, add_of<Byte, Byte, Word>}, {add_of<Byte, Word, Byte>, add_of<Byte, Word, Word>}},
     {{add_of<Word, Byte, Byte>, add_of<Word, Byte, Word>}, {add_of<Word, Word, Byte>, add_of<Word, Word, Word>}}},
    {finish_of<Byte>, finish_of<Word>},
    {{softmax_of<Byte, Byte>, softmax_of<Byte, Word>}, {softmax_of<Word, Byte>, softmax_of<Word, Word>}},
};
