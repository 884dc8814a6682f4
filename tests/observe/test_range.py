from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilequant.models.quantized import fake_quantize
from mobilequant.numerics.qparams import QParams, asymmetric, symmetric
from mobilequant.numerics.qtype import UINT8
from mobilequant.observe.range import RangeCollector, RangeStatistic


def _heavy_tailed(ratio: float, seed: int = 0, count: int = 20_000) -> torch.Tensor:
    """A normal bulk with a handful of values ``ratio`` times larger, more of them above zero than below."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, generator=generator)
    values[:6] = values[:6].abs() * ratio
    values[6:8] = -values[6:8].abs() * ratio * 0.3
    return values


def _statistic(*batches: torch.Tensor) -> RangeStatistic:
    collector = RangeCollector()
    for batch in batches:
        collector.see(batch)
    return collector.result()


def _qparams(low: float, high: float, *, centred: bool) -> QParams:
    return symmetric(max(-low, high), UINT8) if centred else asymmetric(low, high)


def _true_error(values: torch.Tensor, qparams: QParams, p: float) -> float:
    return (fake_quantize(values, qparams) - values).double().abs().pow(p).mean().item()


def _brute_force(values: torch.Tensor, p: float, *, centred: bool) -> float:
    low, high = values.min().item(), values.max().item()
    shares = torch.logspace(-4.5, 0, 40).tolist()
    if centred:
        return min(_true_error(values, symmetric(max(-low, high) * a, UINT8), p) for a in shares)
    return min(_true_error(values, asymmetric(low * a, high * b), p) for a in shares[::2] for b in shares[::2])


@pytest.mark.parametrize("ratio", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("p", [1.0, 2.0, 4.0])
def test_expected_error_is_the_true_error(ratio, p):
    values = _heavy_tailed(ratio)
    statistic = _statistic(values)
    for low, high in ((values.min().item(), values.max().item()), (-2.0, 3.0), (-0.3, 40.0)):
        expected = statistic.expected_error(low, high, UINT8, p)
        # eight values fall into cells wider than a step; the fourth power of each one's error then shows
        slack = 0.03 if p < 4 else 0.15
        assert expected == pytest.approx(_true_error(values, asymmetric(low, high), p), rel=slack)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("ratio", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_optimal_range_is_as_good_as_a_brute_force_search_on_the_data(ratio, p, centred):
    values = _heavy_tailed(ratio)
    low, high = _statistic(values).optimal(UINT8, p, symmetric=centred)
    found = _true_error(values, _qparams(low, high, centred=centred), p)
    assert found <= 1.03 * _brute_force(values, p, centred=centred)


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40), st.booleans(), st.sampled_from([1.0, 2.0, 3.0])
)
@settings(max_examples=25, deadline=None)
def test_optimal_never_expects_more_error_than_minmax_and_contains_zero(values, centred, p):
    statistic = _statistic(torch.tensor(values))
    low, high = statistic.optimal(UINT8, p, symmetric=centred)
    wide = statistic.minmax()
    assert low <= 0 <= high
    chosen = statistic.expected_error(low, high, UINT8, p, symmetric=centred)
    if centred:
        wide = (-max(-wide[0], wide[1]), max(-wide[0], wide[1]))
    assert chosen <= statistic.expected_error(*wide, UINT8, p, symmetric=centred) * (1 + 1e-9)


def test_heavy_tail_is_clipped_for_small_p_and_kept_for_large_p():
    statistic = _statistic(_heavy_tailed(1e3))
    assert statistic.optimal(UINT8, 1.0, symmetric=False)[1] < 0.1 * statistic.high
    assert statistic.optimal(UINT8, 4.0, symmetric=False)[1] > 0.9 * statistic.high


def test_statistics_of_batches_add_up():
    values = _heavy_tailed(100.0)
    whole, parts = _statistic(values), _statistic(*values.split(777))
    assert torch.equal(whole.counts, parts.counts)
    assert (whole.low, whole.high) == (parts.low, parts.high)


def test_percentile_agrees_with_the_sorted_values():
    values = _heavy_tailed(50.0)
    low, high = _statistic(values).percentile(99.0)
    assert low == pytest.approx(values.quantile(0.005).item(), rel=0.02)
    assert high == pytest.approx(values.quantile(0.995).item(), rel=0.02)
    assert _statistic(values).percentile(100.0) == pytest.approx((values.min().item(), values.max().item()))


def test_constant_entries_are_never_clipped():
    collector = RangeCollector()
    collector.see(torch.randn(4000, generator=torch.Generator().manual_seed(1)))
    collector.see_constant(torch.tensor([[[-37.0, 55.0]]]))
    statistic = collector.result()
    for low, high in (
        statistic.minmax(),
        statistic.percentile(99.0),
        statistic.optimal(UINT8, 1.0, symmetric=False),
        statistic.optimal(UINT8, 1.0, symmetric=True),
    ):
        assert low <= -37.0 and high >= 55.0


def test_all_zero_and_one_sided_values_have_a_range():
    assert _statistic(torch.zeros(100)).optimal(UINT8, 2.0, symmetric=False) == (0.0, 0.0)
    low, high = _statistic(torch.rand(5000, generator=torch.Generator().manual_seed(2)) + 1.0).optimal(
        UINT8, 2.0, symmetric=False
    )
    assert low == 0.0 and high == pytest.approx(2.0, rel=0.02)
