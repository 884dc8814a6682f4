import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.evaluate.interval import wilson


def test_numbers_worked_by_hand():
    # n = 10, k = 5, z² = 3.8415: centre 0.5, half width 1.96·sqrt(0.025 + 0.0096036)/1.38415 = 0.26341
    assert wilson(5, 10) == pytest.approx((0.23659, 0.76341), abs=1e-5)
    # k = 0: [0, z²/(n + z²)]
    assert wilson(0, 10) == pytest.approx((0.0, 3.841459 / 13.841459), abs=1e-6)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_contains_the_share_and_mirrors(pair):
    k, n = pair
    low, high = wilson(k, n)
    assert 0 <= low <= k / n + 1e-12
    assert k / n - 1e-12 <= high <= 1
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize("pair", [(0, 0), (3, 2), (-1, 2)])
def test_impossible_counts(pair):
    with pytest.raises(ValueError, match="successes"):
        wilson(*pair)
