"""On a GPU where there is one, else in the interpreter of the kernel language."""

from __future__ import annotations

import math

import pytest
import torch

from kernel_language import DEVICE, kernels
from mobilequant.solvers import straight_through


@pytest.fixture(scope="module")
def kernel():
    return kernels("fake_quantize_kernel")


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
