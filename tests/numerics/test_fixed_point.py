import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.numerics.fixed_point import multiplier, multipliers, rescale

int32 = st.integers(-(2**31), 2**31 - 1)
factors = st.floats(2.0**-40, 2.0**28, allow_nan=False)


@given(factors)
def test_multiplier_is_within_half_a_unit_of_the_real_factor(real: float) -> None:
    found = multiplier(real)
    assert 0 <= found.mantissa < 2**31
    assert 2 <= found.shift <= 62
    smallest_step = max(2.0**-31 * real, 2.0**-62)
    assert abs(found.real - real) <= smallest_step


@given(int32, factors)
def test_rescale_is_exact_round_half_up(value: int, real: float) -> None:
    found = multiplier(real)
    exact = value * found.mantissa
    assert rescale(value, found.mantissa, found.shift) == (exact + (1 << (found.shift - 1))) // (1 << found.shift)


@given(st.lists(st.tuples(int32, factors), min_size=1, max_size=20))
def test_python_numpy_and_torch_agree(pairs: list[tuple[int, float]]) -> None:
    values = [value for value, _ in pairs]
    mantissa, shift = multipliers([real for _, real in pairs])
    expected = [rescale(v, int(m), int(s)) for v, m, s in zip(values, mantissa, shift, strict=True)]
    wide = [array.astype(np.int64) for array in (np.array(values), mantissa, shift)]
    assert rescale(*wide).tolist() == expected
    assert rescale(*[torch.from_numpy(array) for array in wide]).tolist() == expected


def test_rounding_of_halves_goes_up() -> None:
    half = multiplier(0.5)
    assert [rescale(v, half.mantissa, half.shift) for v in (-3, -1, 1, 3)] == [-1, 0, 1, 2]


@pytest.mark.parametrize("real", [-1.0, math.inf, math.nan, 2.0**29])
def test_impossible_factors_are_refused(real: float) -> None:
    with pytest.raises(ValueError, match="factor"):
        multiplier(real)


def test_zero_and_vanishing_factors() -> None:
    assert rescale(2**31 - 1, *_pair(0.0)) == 0
    assert rescale(2**31 - 1, *_pair(2.0**-60)) == 0


def _pair(real: float) -> tuple[int, int]:
    found = multiplier(real)
    return found.mantissa, found.shift
