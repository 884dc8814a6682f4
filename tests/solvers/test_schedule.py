from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.solvers.schedule import Rate, Schedule


def schedule(**options):
    return Schedule(2, 4, {"a": Rate(1.0, 0.1)}, **options)


def test_a_rate_falls_along_half_a_cosine():
    rate = Rate(1.0, 0.1)
    assert [rate.at(part) for part in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.55, 0.1])
    assert all(rate.at(i / 20) > rate.at((i + 1) / 20) for i in range(20))


def test_rates_rise_from_zero_during_the_warm_up():
    found = [schedule(warmup=0.1).rate("a", step, 100) for step in range(12)]
    assert found[0] == pytest.approx(0.1)
    assert found[:10] == sorted(found[:10])
    assert found[10] == Rate(1.0, 0.1).at(0.1)
    assert schedule(warmup=0.0).rate("a", 0, 100) == 1.0


@given(items=st.integers(1, 1000), batch=st.integers(1, 64))
def test_an_epoch_has_whole_batches_and_at_least_one(items, batch):
    found = Schedule(1, batch, {}).batches(items)
    assert found >= 1 and (found - 1) * batch < items
    assert found == 1 or found * batch <= items < (found + 1) * batch


@given(total=st.integers(1, 500), checks=st.integers(1, 20))
def test_the_last_step_is_always_checked(total, checks):
    found = schedule(checks=checks).check_steps(total) - {0}
    assert total in found and max(found) == total
    assert len(found) == min(checks, total)
