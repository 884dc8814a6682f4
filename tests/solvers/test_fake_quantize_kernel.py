"""On a GPU where there is one, else in the interpreter of the kernel language."""

from __future__ import annotations

import importlib
import math
import os

import pytest
import torch

from mobilequant.solvers import rounded_row, straight_through

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when the language is imported; nothing else here imports it
pytest.importorskip("triton", reason="the language of the GPU kernels is not installed")


@pytest.fixture(scope="module")
def kernel():
    return importlib.import_module("mobilequant.solvers.fake_quantize_kernel")


def rows(count, width, *, fraction=0.0):
    generator = torch.Generator().manual_seed(width)
    value = 30 * torch.randn(count, width, generator=generator)
    scale = 0.05 + torch.rand(count, 1, generator=generator)
    zero_point = torch.randint(0, 255, (count, 1), generator=generator) + fraction
    return torch.randn(count, width, generator=generator), value, scale, zero_point


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (3, 100), (5, 4096)])
@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_both_directions_are_those_of_single_operations(kernel, shape, fraction):
    grad, value, scale, zero_point = rows(*shape, fraction=fraction)
    moved = [each.to(DEVICE) for each in (grad, value, scale, zero_point)]
    rounded = kernel.round_trip(*moved[1:], 0, 255)
    assert torch.equal(rounded.cpu(), straight_through._round_trip(value, scale, zero_point, 0, 255))
    found, wanted = (
        kernel.gradients(*moved, 0, 255, 0.25),
        straight_through._gradients(grad, value, scale, zero_point, 0, 255, 0.25),
    )
    assert torch.equal(found[0].cpu(), wanted[0])
    for sums, others in zip(found[1:], wanted[1:], strict=True):
        torch.testing.assert_close(sums.cpu().flatten(), others, rtol=1e-4, atol=1e-2)


def test_what_is_no_number_stays_none(kernel):
    value = torch.tensor([[1.0, math.nan, math.inf, -math.inf]], device=DEVICE)
    scale, zero_point = torch.full((1, 1), 0.5, device=DEVICE), torch.zeros(1, 1, device=DEVICE)
    found = kernel.round_trip(value, scale, zero_point, -8, 7)
    assert found.isnan().tolist() == [[False, True, False, False]]
    assert found[0, 2:].tolist() == [3.5, -4.0]


def test_sums_are_the_same_each_time(kernel):
    given = [each.to(DEVICE) for each in rows(2, 9000)]
    first, again = (kernel.gradients(*given, 0, 255, 1.0) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))


@pytest.mark.parametrize("shape", [(1, 1), (3, 100), (2, 5000)])
@pytest.mark.parametrize("with_offset", [False, True])
def test_rows_with_offsets_are_those_of_single_operations(kernel, shape, with_offset):
    grad, value, scale, _ = rows(*shape)
    offset = 0.6 * torch.randn(shape, generator=torch.Generator().manual_seed(5)) if with_offset else None
    on_device = [None if each is None else each.to(DEVICE) for each in (grad, value, offset, scale)]
    rounded = kernel.round_trip_moved(*on_device[1:], -8, 7)
    assert torch.equal(rounded.cpu(), rounded_row._round_trip(value, offset, scale, -8, 7))
    found = kernel.gradients_moved(*on_device, -8, 7)
    to_rows, to_scale, to_offset = rounded_row._gradients(grad, value, offset, scale, -8, 7)
    assert torch.equal(found[0].cpu(), to_rows)
    torch.testing.assert_close(found[1].cpu(), to_scale, rtol=1e-4, atol=1e-2)
    assert found[2] is to_offset is None or torch.equal(found[2].cpu(), to_offset)


@pytest.mark.parametrize("shape", [(1, 1), (7, 100), (3, 9000)])
def test_what_covers_a_row_is_found_in_one_pass(kernel, shape):
    value = rows(*shape)[1]
    value[-1] *= -1
    found, wanted = kernel.cover(value.to(DEVICE), -8, 7), rounded_row._cover(value, -8, 7)
    assert torch.equal(found[0].cpu(), wanted[0]) and torch.equal(found[1].cpu(), wanted[1])
    torch.testing.assert_close(found[2].cpu(), wanted[2])
    none = kernel.cover(torch.zeros(2, 30, device=DEVICE), -8, 7)
    assert none[2].tolist() == [0.0, 0.0] and torch.equal(
        none[0].cpu(), rounded_row._cover(torch.zeros(2, 30), -8, 7)[0]
    )
