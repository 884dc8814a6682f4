from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilequant.numerics.qtype import INT4, INT8
from mobilequant.solvers import range_search
from mobilequant.solvers.range_search import covering_scale, search_scale
from mobilequant.solvers.rounding import nearest_codes


def _error(rows, scale, qtype, p):
    return (nearest_codes(rows, scale[:, None], qtype) * scale[:, None] - rows).abs().pow(p).sum(1)


@given(st.integers(0, 10_000), st.sampled_from([INT4, INT8]))
@settings(max_examples=50, deadline=None)
def test_covering_scale_clips_nothing_and_is_the_smallest(seed, qtype):
    rows = torch.randn(5, 17, generator=torch.Generator().manual_seed(seed))
    scale = covering_scale(rows, qtype)
    exact = rows / scale[:, None]
    assert exact.max() <= qtype.qmax * (1 + 1e-6) and exact.min() >= qtype.qmin * (1 + 1e-6)
    touched = torch.maximum(exact.amax(1) / qtype.qmax, exact.amin(1) / qtype.qmin)
    assert torch.allclose(touched, torch.ones(5))


@pytest.mark.parametrize("qtype", [INT4, INT8])
@pytest.mark.parametrize("p", [1.5, 2.0, 3.0])
def test_search_never_loses_to_covering(qtype, p):
    rows = torch.randn(64, 96, generator=torch.Generator().manual_seed(0)) ** 3
    found, full = search_scale(rows, qtype, p), covering_scale(rows, qtype)
    assert (_error(rows, found, qtype, p) <= _error(rows, full, qtype, p) * (1 + 1e-5)).all()


def test_search_clips_heavy_rows_at_four_bits():
    rows = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    gain = (
        _error(rows, search_scale(rows, INT4), INT4, 2).sum() / _error(rows, covering_scale(rows, INT4), INT4, 2).sum()
    )
    assert gain < 0.9


def test_dead_rows_get_a_finite_scale_and_zero_codes():
    rows = torch.randn(4, 8, generator=torch.Generator().manual_seed(3))
    rows[2] = 0
    for scale in (covering_scale(rows, INT4), search_scale(rows, INT4)):
        assert torch.isfinite(scale).all() and (scale > 0).all()
        assert not nearest_codes(rows, scale[:, None], INT4)[2].any()
    assert torch.equal(covering_scale(torch.zeros(2, 3), INT8), torch.ones(2))


def test_chunks_do_not_change_the_result(monkeypatch):
    rows = torch.randn(30, 16, generator=torch.Generator().manual_seed(4))
    whole = search_scale(rows, INT8)
    monkeypatch.setattr(range_search, "_CHUNK_ELEMENTS", 7 * 16)
    assert torch.equal(search_scale(rows, INT8), whole)
