import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.numerics.qparams import QParams, asymmetric, symmetric
from mobilequant.numerics.qtype import INT16, UINT8

reals = st.floats(-1e5, 1e5, allow_nan=False)


@given(reals, reals)
def test_asymmetric_covers_the_range_and_zero(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    q = asymmetric(low, high)
    assert q.scale * (q.qtype.qmin - q.zero_point) <= min(low, 0) + q.scale
    assert q.scale * (q.qtype.qmax - q.zero_point) >= max(high, 0) - q.scale
    assert isinstance(q.zero_point, int)


@given(reals)
def test_symmetric_puts_zero_in_the_middle(bound: float) -> None:
    assert symmetric(bound, INT16).zero_point == 0
    assert symmetric(bound, UINT8).zero_point == 128
    q = symmetric(bound, INT16)
    assert math.isclose(q.scale * q.qtype.qmax, max(abs(bound), 1e-8))


@pytest.mark.parametrize(("scale", "zero_point"), [(0.0, 0), (-1.0, 0), (math.nan, 0), (1.0, 256), (1.0, -1)])
def test_impossible_parameters_are_refused(scale: float, zero_point: int) -> None:
    with pytest.raises(ValueError, match=r"scale|zero_point"):
        QParams(scale, zero_point, UINT8)
