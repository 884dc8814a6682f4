"""The one operation beside the many that it stands for."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilequant.numerics.qtype import INT4, INT8
from mobilequant.solvers.rounded_row import covering, round_rows
from mobilequant.solvers.straight_through import fake_quantize

QTYPES = pytest.mark.parametrize("qtype", [INT4, INT8], ids=["int4", "int8"])
OFFSETS = pytest.mark.parametrize("with_offset", [False, True], ids=["nearest", "offset"])


def drawn(count, width, with_offset, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=generator)
    share = 0.3 * torch.randn(count, generator=generator) - 0.2
    offset = torch.randn(count, width, generator=generator) if with_offset else None
    return [None if each is None else each.requires_grad_() for each in (rows, share, offset)]


def in_single_operations(rows, share, offset, qtype):
    """The definition, by autograd; the share's gradient is not lessened, and offsets move by a fixed step."""
    reach = torch.maximum(rows.amax(dim=1) / qtype.qmax, rows.amin(dim=1) / qtype.qmin)
    scale = (reach * share.exp())[:, None]
    moved = rows if offset is None else rows + scale.detach() * offset.clamp(-0.5, 0.5)
    return fake_quantize(moved, scale, torch.zeros_like(scale), qtype.qmin, qtype.qmax)


@QTYPES
@OFFSETS
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 40))
def test_it_is_what_single_operations_give_forward_and_back(qtype, with_offset, seed, width):
    one, many = drawn(5, width, with_offset, seed), drawn(5, width, with_offset, seed)
    found, wanted = round_rows(*one, qtype), in_single_operations(*many, qtype)
    assert torch.equal(found, wanted)
    arriving = torch.randn(found.shape, generator=torch.Generator().manual_seed(seed % 1000))
    found.backward(arriving)
    wanted.backward(arriving)
    torch.testing.assert_close(one[0].grad, many[0].grad, rtol=1e-4, atol=1e-5)
    lessened = many[1].grad / math.sqrt(width * qtype.qmax)
    torch.testing.assert_close(one[1].grad, lessened, rtol=1e-4, atol=1e-5)
    if with_offset:
        torch.testing.assert_close(one[2].grad, many[2].grad, rtol=1e-4, atol=1e-6)


def test_without_leaves_in_front_the_rows_get_no_gradient():
    rows, share, offset = drawn(3, 8, True)
    round_rows(rows.detach(), share, offset, INT4).sum().backward()
    assert rows.grad is None and bool((share.grad != 0).all())


def test_a_row_of_zeros_stays_zero_and_gives_numbers():
    rows, share, offset = drawn(3, 8, True)
    with torch.no_grad():
        rows[1] = 0.0
    found = round_rows(rows, share, offset, INT4)
    found.square().sum().backward()
    assert found[1].abs().max() < 1e-30
    assert all(bool(each.grad.isfinite().all()) for each in (rows, share, offset))


def test_covering_clips_nothing():
    rows = torch.tensor([[7.0, -1.0], [1.0, -8.0], [0.0, 0.0]])
    found = covering(rows, INT4)
    assert found[:2].tolist() == [1.0, 1.0] and found[2] > 0
