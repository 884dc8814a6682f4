import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.evaluate.sqnr import decibel, layer_of, sqnr


def source(values, **changed):
    """Shows the same points for every window."""

    def run(_tokens, tap):
        for name, value in {**values, **changed}.items():
            tap(name, value)

    return run


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


WINDOWS = torch.zeros(3, 4, dtype=torch.long)
VALUES = {"embed": normal(1, 4, 64), "layers.11.down": normal(1, 4, 64, seed=1), "logits": normal(1, 4, 64, seed=2)}


def test_known_noise():
    x = VALUES["layers.11.down"]
    noisy = x + 0.1 * x.square().mean().sqrt() * torch.sign(normal(1, 4, 64, seed=3))  # noise power = signal / 100
    rows = {row.point: row for row in sqnr(source(VALUES), source(VALUES, **{"layers.11.down": noisy}), WINDOWS)}
    row = rows["layers.11.down"]
    assert row.sqnr_db == pytest.approx(20.0, abs=1e-3)
    assert (row.role, row.layer) == ("down", 11)
    assert row.max_abs == pytest.approx(float(x.abs().max()))
    assert (row.range_low, row.range_high) == pytest.approx((float(noisy.min()), float(noisy.max())))
    assert rows["embed"].sqnr_db is None
    assert (rows["logits"].layer, list(rows)) == (None, list(VALUES))


def test_windows_are_summed_not_averaged():
    calls = iter((1.0, 3.0))  # noise power 1 and 9 on signal power 100

    def quantized(_tokens, tap):
        tap("embed", torch.full((1, 8), 10.0 + next(calls)))

    (row,) = sqnr(source({"embed": torch.full((1, 8), 10.0)}), quantized, WINDOWS[:2])
    assert row.sqnr_db == pytest.approx(10 * torch.log10(torch.tensor(200 / 10)).item(), abs=1e-5)


def test_foreign_points_are_ignored():
    rows = sqnr(source(VALUES), source(VALUES, only_here=torch.ones(1)), WINDOWS)
    assert [row.point for row in rows] == list(VALUES)


def test_the_batch_dimension_may_be_missing():
    rows = sqnr(source(VALUES), source({name: value[0] for name, value in VALUES.items()}), WINDOWS)
    assert [row.sqnr_db for row in rows] == [None] * 3


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="logits"):
        sqnr(source(VALUES), source(VALUES, logits=torch.ones(1, 4, 63)), WINDOWS)


def test_a_reference_changed_in_place_afterwards_is_not_seen():
    def in_place(_tokens, tap):
        value = torch.ones(2, 2)
        tap("embed", value)
        value.zero_()

    (row,) = sqnr(in_place, source({"embed": torch.ones(2, 2)}), WINDOWS)
    assert row.sqnr_db is None


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_decibels_are_antisymmetric(signal, noise):
    assert decibel(signal, noise) == pytest.approx(-decibel(noise, signal), abs=1e-9)


def test_decibel_edges():
    assert decibel(5.0, 0.0) is None
    assert decibel(0.0, 1.0) == -200.0
    assert layer_of("layers.3.down") == 3
    assert layer_of("final_norm") is None
