"""The proof that accumulators fit: never below what an input can reach, and refused where int32 ends."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mobilequant.errors import LoweringError
from mobilequant.integer.bound import (
    INT32_MAX,
    accumulator_bound,
    check_accumulator,
    effective_weights,
    widest_symmetric_code,
)
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import INT16, UINT8

int8_codes = arrays.arrays(np.int8, st.tuples(st.integers(1, 3), st.integers(1, 6)), elements=st.integers(-127, 127))
zero_points = st.integers(0, 255)


def uint8(zero_point):
    return QParams(0.1, zero_point, UINT8)


def int16(largest):
    return QParams(0.1, 0, replace(INT16, qmin=-largest, qmax=largest))


def every_corner(codes, q):
    """All inputs whose codes are at their limits; sums are largest there. (2^I, I), zero point still inside."""
    return np.array(list(itertools.product((q.qtype.qmin, q.qtype.qmax), repeat=codes.shape[1])), dtype=np.int64)


@given(int8_codes, zero_points, st.data())
def test_no_input_leaves_the_bound_in_any_order_of_summation(codes, zero_point, data):
    q = uint8(zero_point)
    bias = data.draw(arrays.arrays(np.int32, len(codes), elements=st.integers(-(2**31), 2**31 - 1)))
    bound = accumulator_bound(codes, None, bias, q)
    inputs, weights = every_corner(codes, q)[:, None, :], codes.astype(np.int64)
    raw, centred = (np.cumsum(x * weights, axis=2) for x in (inputs, inputs - zero_point))
    correction, start = (zero_point * weights.sum(1))[:, None], bias.astype(np.int64)[:, None]
    assert (raw[..., -1:] - correction == centred[..., -1:]).all()
    for partial_sums in (centred, centred + start, raw, raw + start, raw - correction, raw - correction + start):
        assert np.abs(partial_sums).max() <= bound


@given(int8_codes, st.integers(1, 32767))
def test_bound_of_a_symmetric_input_is_reached(codes, largest):
    q = int16(largest)
    reached = np.abs(every_corner(codes, q) @ codes.astype(np.int64).T).max()
    assert accumulator_bound(codes, None, None, q) == reached


@given(st.integers(1, 3), st.integers(1, 4), st.data())
def test_groups_count_with_their_multipliers(rows, groups, data):
    codes = data.draw(arrays.arrays(np.int8, (rows, groups * 3), elements=st.integers(-8, 7)))
    multiplier = data.draw(arrays.arrays(np.uint8, (rows, groups), elements=st.integers(1, 255)))
    expected = [[int(codes[o, i]) * int(multiplier[o, i // 3]) for i in range(groups * 3)] for o in range(rows)]
    assert effective_weights(codes, multiplier).tolist() == expected
    widest_row = max(sum(abs(w) for w in row) for row in expected)
    assert accumulator_bound(codes, multiplier, None, int16(1000)) == 1000 * widest_row


def test_every_row_is_looked_at():
    codes = np.zeros((5000, 1), np.int8)
    codes[4999] = 3
    assert accumulator_bound(codes, None, None, uint8(0)) == 3 * 255


def test_the_last_bit_of_int32_decides():
    codes, q = np.array([[1]], np.int8), uint8(0)
    fits = np.array([INT32_MAX - 255], np.int32)
    assert check_accumulator("x", codes, None, fits, q) == INT32_MAX
    with pytest.raises(LoweringError, match=r"layers\.0\.down.*2147483648"):
        check_accumulator("layers.0.down", codes, None, fits + 1, q)
    with pytest.raises(LoweringError):
        check_accumulator("x", codes, None, np.array([-(2**31)], np.int32), q)


@given(st.integers(1, 3), st.integers(400, 900), st.integers(1, 127), st.floats(0, 60_000))
def test_widest_code_is_the_largest_that_passes(rows, columns, code, bias_per_code):
    codes = np.full((rows, columns), code, np.int8)
    codes[0] = -code
    slope = np.full(rows, bias_per_code)
    widest = widest_symmetric_code(codes, None, slope)

    def bias(largest):
        return np.rint(slope * largest).clip(-INT32_MAX, INT32_MAX).astype(np.int32)

    assert accumulator_bound(codes, None, bias(widest), int16(widest)) <= INT32_MAX
    if widest < 32767:
        # One step of the sum is kept for the rounding of the bias.
        assert accumulator_bound(codes, None, bias(widest + 1), int16(widest + 1)) >= INT32_MAX - 1


@given(st.integers(1, 900), st.integers(1, 127))
def test_widest_code_without_bias(columns, code):
    codes = np.full((1, columns), code, np.int8)
    widest = widest_symmetric_code(codes, None, None)
    assert widest * columns * code <= INT32_MAX
    assert widest == 32767 or (widest + 1) * columns * code > INT32_MAX
