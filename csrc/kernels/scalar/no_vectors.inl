// What a processor without a file of its own does in vectors: nothing.

template <class In>
static int norm_sum_vectors(const In*, const NormKernel&, std::int64_t&, std::int64_t&) {
    return 0;
}
template <class In, class Out>
static int norm_vectors(const In*, Out*, const Factor&, const NormKernel&) {
    return 0;
}
template <class In, class Out>
static int rope_vectors(const In*, Out*, const std::int16_t*, const std::int16_t*, const RopeKernel&) {
    return 0;
}
template <class Out>
static std::int64_t table8_vectors(const std::uint8_t*, Out*, std::int64_t, const Out*) {
    return 0;
}
template <class A, class B, class Out>
static std::int64_t multiply_vectors(const A*, const B*, Out*, std::int64_t, const MultiplyKernel&) {
    return 0;
}
template <class A, class B, class Out>
static std::int64_t add_vectors(const A*, const B*, Out*, std::int64_t, const AddKernel&) {
    return 0;
}
