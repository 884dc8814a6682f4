"""On a GPU where there is one, else in the interpreter of the kernel language."""

from __future__ import annotations

import pytest
import torch

from kernel_language import DEVICE, kernels, there
from mobilequant.solvers import rounded_row

SHAPES = pytest.mark.parametrize("shape", [(1, 1), (7, 100), (3, 9000)])
OFFSETS = pytest.mark.parametrize("with_offset", [False, True], ids=["nearest", "offset"])


@pytest.fixture(scope="module")
def kernel():
    return kernels("rounded_row_kernel")


def drawn(shape, with_offset):
    generator = torch.Generator().manual_seed(shape[1])
    rows = 30 * torch.randn(shape, generator=generator)
    rows[-1] *= -1
    growth = (0.3 * torch.randn(shape[0], generator=generator)).exp()
    return rows, growth, 0.6 * torch.randn(shape, generator=generator) if with_offset else None


@SHAPES
@OFFSETS
def test_rows_are_rounded_as_by_single_operations(kernel, shape, with_offset):
    given = drawn(shape, with_offset)
    found, wanted = kernel.round_rows(*there(given), -8, 7), rounded_row._round_rows(*given, -8, 7)
    for one, other in zip(found[:3], wanted[:3], strict=True):
        assert torch.equal(one.cpu(), other)
    torch.testing.assert_close(found[3].cpu(), wanted[3])


@SHAPES
@OFFSETS
def test_gradients_are_those_of_single_operations(kernel, shape, with_offset):
    rows, growth, offset = drawn(shape, with_offset)
    saved = rounded_row._round_rows(rows, growth, offset, -8, 7)[1:]
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    given = (grad, rows, offset, *saved)
    found = kernel.gradients(*there(given), -8, 7, of_rows=True)
    wanted = rounded_row._gradients(*given, -8, 7, of_rows=True)
    for one, other in zip(found[:2], wanted[:2], strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-4, atol=1e-2)
    elsewhere = torch.ones(shape, dtype=torch.bool).scatter_(1, saved[1][:, None], False)
    assert torch.equal(found[0].cpu()[elsewhere], wanted[0][elsewhere])
    assert found[2] is wanted[2] is None or torch.equal(found[2].cpu(), wanted[2])
    again = kernel.gradients(*there(given), -8, 7, of_rows=False)
    assert again[0] is None and torch.equal(again[1], found[1])


def test_a_row_of_zeros_has_no_slope(kernel):
    found = kernel.round_rows(torch.zeros(2, 30, device=DEVICE), torch.ones(2, device=DEVICE), None, -8, 7)
    wanted = rounded_row._round_rows(torch.zeros(2, 30), torch.ones(2), None, -8, 7)
    assert torch.equal(found[1].cpu(), wanted[1]) and found[3].tolist() == [0.0, 0.0]
