from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilequant.errors import DataError
from mobilequant.numerics.qtype import INT4
from mobilequant.solvers.gptq import GptqSettings, gptq_codes, output_error
from mobilequant.solvers.group_scale import weight_scale
from mobilequant.solvers.range_search import WeightRange
from mobilequant.solvers.rounding import nearest_codes

SETTINGS = GptqSettings()


def _problem(seed: int, rows: int = 24, columns: int = 40, tokens: int = 300):
    """A weight and the Hessian of correlated, unevenly scaled inputs."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator) * torch.logspace(-1, 1, columns)
    inputs = torch.randn(tokens, columns, generator=generator) @ mixing
    return torch.randn(rows, columns, generator=generator), inputs.T @ inputs / tokens


def _scale(weight, group_size=None):
    return weight_scale("w", weight, INT4, group_size, WeightRange()).elements(weight.shape[1])


def _solve(weight, hessian, settings=SETTINGS, group_size=None):
    scale = _scale(weight, group_size).expand_as(weight)
    codes = gptq_codes("w", weight, hessian, scale, INT4, settings)
    return codes, scale


@given(st.integers(0, 10_000), st.sampled_from([None, 8]), st.sampled_from([7, 16, 128]), st.booleans())
@settings(max_examples=20, deadline=None)
def test_no_row_is_worse_than_rounding_to_nearest(seed, group_size, block_size, ordered):
    weight, hessian = _problem(seed)
    codes, scale = _solve(weight, hessian, GptqSettings(0.01, block_size, ordered), group_size)
    nearest = nearest_codes(weight, scale, INT4)
    solved, base = output_error(weight, codes * scale, hessian), output_error(weight, nearest * scale, hessian)
    assert (solved <= base).all()
    assert codes.min() >= INT4.qmin and codes.max() <= INT4.qmax


def test_error_falls_by_far_on_correlated_inputs():
    ratios = []
    for seed in range(8):
        weight, hessian = _problem(seed)
        codes, scale = _solve(weight, hessian)
        base = output_error(weight, nearest_codes(weight, scale, INT4) * scale, hessian).sum()
        ratios.append((output_error(weight, codes * scale, hessian).sum() / base).item())
    assert sum(ratios) / len(ratios) < 0.5


@pytest.mark.parametrize("hessian", [torch.eye(40), torch.diag(torch.logspace(-3, 3, 40))])
def test_uncorrelated_inputs_give_rounding_to_nearest_exactly(hessian):
    weight, _ = _problem(0)
    codes, scale = _solve(weight, hessian)
    assert torch.equal(codes, nearest_codes(weight, scale, INT4))


def test_block_size_only_changes_the_order_of_additions():
    weight, hessian = _problem(1)
    whole, scale = _solve(weight, hessian, GptqSettings(block_size=40))
    parts, _ = _solve(weight, hessian, GptqSettings(block_size=7))
    assert (whole != parts).float().mean() < 0.01
    errors = [output_error(weight, codes * scale, hessian).sum() for codes in (whole, parts)]
    assert torch.isclose(*errors, rtol=0.05)


def test_objective_is_the_mean_squared_output_error():
    generator = torch.Generator().manual_seed(0)
    inputs, weight = torch.randn(50, 6, generator=generator), torch.randn(3, 6, generator=generator)
    rounded = weight.round()
    direct = (inputs @ (weight - rounded).T).square().mean(0).double()
    assert torch.allclose(output_error(weight, rounded, inputs.T @ inputs / 50), direct, rtol=1e-5)


def test_dead_columns_are_rounded_to_nearest():
    weight, hessian = _problem(2)
    dead = [3, 17]
    hessian[dead] = 0
    hessian[:, dead] = 0
    codes, scale = _solve(weight, hessian)
    assert torch.equal(codes[:, dead], nearest_codes(weight, scale, INT4)[:, dead])


def test_singular_hessian_gets_more_damping_and_a_warning(caplog):
    weight, hessian = _problem(3)
    hessian -= 2 * torch.eye(40) * hessian.diagonal().mean() * 0.02  # not even positive semidefinite
    with caplog.at_level(logging.WARNING):
        codes, _ = _solve(weight, hessian, GptqSettings(damping=1e-4))
    assert "w: the Hessian is singular" in caplog.text
    assert torch.isfinite(codes.float()).all()


def test_no_inputs_at_all_is_rounding_to_nearest():
    weight, _ = _problem(4)
    codes, scale = _solve(weight, torch.zeros(40, 40))
    assert torch.equal(codes, nearest_codes(weight, scale, INT4))


def test_infinite_moments_are_refused_by_name():
    weight, hessian = _problem(5)
    hessian[0, 0] = float("inf")
    with pytest.raises(DataError, match="inputs of w overflow"):
        _solve(weight, hessian)
