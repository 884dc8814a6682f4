from __future__ import annotations

import pytest
import torch

from mobilequant.solvers.straight_through import fake_quantize
from mobilequant.solvers.traced_fake_quantize import traced_fake_quantize


def gradients(found, leaves):
    arriving = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad(found, leaves, arriving)


@pytest.mark.parametrize("limits", [(0, 255), (-8, 7)])
@pytest.mark.parametrize("zero_point", [3.0, 2.7])
@pytest.mark.parametrize("shape", [(7,), (3, 50), (2, 3, 4, 5)])
def test_both_directions_are_those_without_a_compiler(shape, zero_point, limits):
    value = 60 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    leaves = [each.requires_grad_() for each in (value, torch.tensor(0.37), torch.tensor(zero_point))]
    wanted = fake_quantize(*leaves, *limits, gradient_factor=0.25)
    grid = torch.tensor([0.37, zero_point], requires_grad=True)
    found = traced_fake_quantize(value, grid, *limits, gradient_factor=0.25)
    assert torch.equal(found, wanted)
    (to_value, *to_grid), (wanted_value, found_grid) = gradients(wanted, leaves), gradients(found, [value, grid])
    assert torch.equal(to_value, wanted_value)
    torch.testing.assert_close(found_grid, torch.stack(to_grid), rtol=1e-4, atol=1e-4)


def test_what_is_no_number_stays_none():
    value = torch.tensor([1.0, torch.nan, torch.inf, -torch.inf])
    found = traced_fake_quantize(value, torch.tensor([0.5, 0.0]), -8, 7)
    assert found.isnan().tolist() == [False, True, False, False] and found[2:].tolist() == [3.5, -4.0]
