from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilequant.models import quantized
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import BY_NAME, INT4, UINT8
from mobilequant.solvers.straight_through import fake_quantize, round_through

QTYPES = st.sampled_from(list(BY_NAME.values()))
SCALES = st.floats(-20, 13, width=32).map(lambda exponent: torch.tensor(2.0**exponent).item())
SEEDS = st.integers(0, 2**32 - 1)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tracked(*values):
    return [value.clone().requires_grad_() for value in values]


@settings(max_examples=60, deadline=None)
@given(qtype=QTYPES, scale=SCALES, place=st.floats(0, 1), seed=SEEDS)
def test_forward_is_that_of_the_simulation(qtype, scale, place, seed):
    zero_point = round(qtype.qmin + place * (qtype.qmax - qtype.qmin))
    value = random(3, 5, seed=seed) * scale * (qtype.qmax - qtype.qmin)
    wanted = quantized.fake_quantize(value, QParams(scale, zero_point, qtype))
    found = fake_quantize(value, torch.tensor(scale), torch.tensor(float(zero_point)), qtype.qmin, qtype.qmax)
    assert torch.equal(found, wanted)


@settings(max_examples=30, deadline=None)
@given(qtype=QTYPES, seed=SEEDS)
def test_rows_have_scales_of_their_own(qtype, seed):
    value, scale = random(4, 6, seed=seed), torch.tensor([[1e-3], [0.02], [0.5], [7.0]])
    zero_point = torch.full((4, 1), float(qtype.qmin + 3))
    found = fake_quantize(value, scale, zero_point, qtype.qmin, qtype.qmax)
    each = [
        fake_quantize(*row, qtype.qmin, qtype.qmax) for row in zip(value, scale[:, 0], zero_point[:, 0], strict=True)
    ]
    assert torch.equal(found, torch.stack(each))


@settings(max_examples=40, deadline=None)
@given(qtype=st.sampled_from([INT4, UINT8]), fraction=st.floats(-0.5, 0.5), seed=SEEDS)
def test_gradients_are_the_closed_formulas(qtype, fraction, seed):
    span = qtype.qmax - qtype.qmin
    scale, zero_point = torch.tensor(0.37), torch.tensor(qtype.qmin + span / 3 + fraction)
    value, arriving = random(64, seed=seed) * 0.37 * span, random(64, seed=seed + 1)
    leaves = tracked(value, scale, zero_point)
    fake_quantize(*leaves, qtype.qmin, qtype.qmax).backward(arriving)
    exact = value / scale
    codes = torch.floor(exact + 0.5) + zero_point
    below, above = codes < qtype.qmin, codes > qtype.qmax
    inside = ~(below | above)
    assert inside.any() and (below | above).any()
    per_scale = torch.floor(exact + 0.5) - exact
    per_scale[below], per_scale[above] = qtype.qmin - zero_point, qtype.qmax - zero_point
    assert torch.equal(leaves[0].grad, torch.where(inside, arriving, 0.0))
    torch.testing.assert_close(leaves[1].grad, (arriving * per_scale).sum(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(leaves[2].grad, -(arriving * ~inside).sum() * scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("per_row", [False, True])
def test_gradients_are_finite_differences_of_the_surrogate(per_row):
    """The surrogate keeps the distance of each value to its code and lets everything else move; float64."""
    shape = (3, 1) if per_row else ()
    value = 8 * random(3, 40).double()
    scale, zero_point = 0.3 + 0.2 * random(*shape, seed=1).abs().double(), 7.3 + random(*shape, seed=2).double()
    rest = torch.floor(value / scale + 0.5) - value / scale

    def surrogate(value, scale, zero_point):
        return ((value / scale + rest + zero_point).clamp(0, 15) - zero_point) * scale

    leaves = tracked(value.float(), scale.float(), zero_point.float())
    arriving = random(3, 40, seed=3)
    fake_quantize(*leaves, 0, 15).backward(arriving)
    step = 1e-6
    for number, leaf in enumerate(leaves):
        nudged = [[value, scale, zero_point] for _ in range(2)]
        for side, sign in zip(nudged, (1, -1), strict=True):
            side[number] = side[number] + sign * step
        difference = arriving * (surrogate(*nudged[0]) - surrogate(*nudged[1])) / (2 * step)
        axes = [axis for axis in range(2) if leaf.dim() < 2 or leaf.shape[axis] == 1]
        wanted = difference if number == 0 else difference.sum(axes, keepdim=leaf.dim() == 2)
        torch.testing.assert_close(leaf.grad, wanted.float(), rtol=1e-3, atol=1e-3)


def test_bfloat16_is_rounded_in_float32_and_comes_back_as_bfloat16():
    value = (20 * random(4, 8)).bfloat16()
    leaves = tracked(value, torch.tensor(0.1), torch.tensor(100.0))
    found = fake_quantize(*leaves, 0, 255)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, fake_quantize(value.float(), *leaves[1:], 0, 255).bfloat16())
    found.sum().backward()
    assert [leaf.grad.dtype for leaf in leaves] == [torch.bfloat16, torch.float32, torch.float32]


def test_a_view_is_rounded_like_its_copy():
    value = random(4, 6, 5).transpose(0, 2)
    scale, zero_point = torch.full((5, 1), 0.1), torch.zeros(5, 1)
    results = []
    for given_ in (value, value.contiguous()):
        leaf = given_.detach().requires_grad_()
        found = fake_quantize(leaf, scale, zero_point, -8, 7)
        found.square().sum().backward()
        results.append((found, leaf.grad))
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_what_is_no_number_stays_none():
    value = torch.tensor([1.0, math.nan, math.inf, -math.inf])
    found = fake_quantize(value, torch.tensor(0.5), torch.tensor(0.0), -8, 7)
    assert found.isnan().tolist() == [False, True, False, False]
    assert found[2:].tolist() == [3.5, -4.0]


def test_a_clipped_value_gets_no_gradient_even_of_infinity():
    leaf = torch.tensor([0.1, 100.0]).requires_grad_()
    fake_quantize(leaf, torch.tensor(0.5), torch.tensor(0.0), -8, 7).backward(torch.tensor([1.0, math.inf]))
    assert leaf.grad.tolist() == [1.0, 0.0]


def test_rounding_passes_gradients():
    leaf = torch.tensor([-1.7, 0.2, 0.5, 1.5, 1e6]).requires_grad_()
    found = round_through(leaf)
    found.backward(torch.arange(5.0))
    assert torch.equal(found, leaf.round())
    assert torch.equal(leaf.grad, torch.arange(5.0))


@given(factor=st.floats(1e-6, 1e3))
def test_a_gradient_factor_concerns_scale_and_zero_point_alone(factor):
    plain, scaled = (tracked(random(64), torch.tensor(0.1), torch.tensor(3.0)) for _ in range(2))
    results = [fake_quantize(*plain, 0, 15), fake_quantize(*scaled, 0, 15, gradient_factor=factor)]
    assert torch.equal(*results)
    for result in results:
        (result * random(64, seed=1)).sum().backward()
    assert torch.equal(plain[0].grad, scaled[0].grad)
    for one, other in zip(plain[1:], scaled[1:], strict=True):
        torch.testing.assert_close(other.grad, factor * one.grad)
