// Products of lanes, which x86 forms of the even lanes alone: 64 bits each. The odd ones are shifted into their place.

inline Lanes odd(Lanes value) { return shift_right_64<32>(value); }

// What many lanes are multiplied by.
struct Multiplier {
    Lanes even, odd_lanes;
    explicit Multiplier(Lanes by) : even(by), odd_lanes(odd(by)) {}
};

// The high halves of all products.
inline Lanes high_products(Lanes a, const Multiplier& by) {
    return merge(odd(multiply_even(a, by.even)), multiply_even(odd(a), by.odd_lanes));
}

// (a · b + 2^14) >> 15, modulo 2^32.
inline Lanes rounded_products_15(Lanes a, Lanes b) {
    const Lanes half = set64(1 << 14);
    const Lanes even = add64(multiply_even(a, b), half), odds = add64(multiply_even(odd(a), odd(b)), half);
    return merge(shift_right_64<15>(even), shift_left_64<17>(odds));
}

using WideSums = Lanes;
inline WideSums no_sums() { return set32(0); }
inline WideSums add_squares(WideSums sums, Lanes value) {
    return add64(sums, add64(multiply_even(value, value), multiply_even(odd(value), odd(value))));
}
