from __future__ import annotations

import pytest
import torch

from mobilequant.errors import UsageError
from mobilequant.numerics.qtype import INT4
from mobilequant.solvers.group_scale import check_group_size, weight_scale
from mobilequant.solvers.range_search import WeightRange
from mobilequant.solvers.rounding import nearest_codes

ABSMAX, LP = WeightRange(weight_range="absmax"), WeightRange(weight_range="lp")


def _uneven(rows: int, columns: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, columns, generator=generator) * torch.logspace(-2, 1, columns)


@pytest.mark.parametrize("weight_range", [ABSMAX, LP])
def test_largest_group_gets_255_and_none_gets_zero(weight_range):
    weight = _uneven(6, 64)
    weight[3, :16] = 0  # a dead group
    found = weight_scale("layers.0.q", weight, INT4, 16, weight_range)
    assert found.group_multiplier.shape == (6, 4)
    assert found.group_multiplier.dtype == torch.uint8
    assert torch.equal(found.group_multiplier.amax(1), torch.full((6,), 255, dtype=torch.uint8))
    assert found.group_multiplier.min() >= 1


def test_codes_rounded_on_the_integer_grid_match_the_finished_weight():
    weight = _uneven(6, 64)
    found = weight_scale("layers.0.q", weight, INT4, 16, LP)
    elements = found.elements(64)
    finished = found.with_codes(nearest_codes(weight, elements, INT4), INT4)
    assert finished.group_size == 16
    assert torch.equal(finished.element_scale(), elements)
    inside = (weight / elements).abs() < 7
    assert ((finished.dequantize() - weight).abs() <= 0.5001 * elements)[inside].all()


def test_groups_beat_one_scale_on_uneven_columns():
    weight = _uneven(6, 64)
    errors = []
    for group_size in (None, 32, 16, 8):
        scale = weight_scale("layers.0.q", weight, INT4, group_size, LP).elements(64)
        errors.append((nearest_codes(weight, scale, INT4) * scale - weight).square().sum().item())
    assert errors == sorted(errors, reverse=True)


def test_indivisible_group_names_tensor_and_nearest_sizes():
    with pytest.raises(UsageError) as caught:
        weight_scale("layers.1.down", torch.zeros(2, 80), INT4, 64, ABSMAX)
    assert "layers.1.down.weight" in caught.value.message
    assert "40" in caught.value.remedy and "80" in caught.value.remedy


@pytest.mark.parametrize(("columns", "said"), [(72, "36 or 72,"), (33, "of 33,"), (48, "of 48,")])
def test_group_sizes_that_would_do_are_named_once(columns, said):
    with pytest.raises(UsageError) as caught:
        check_group_size("layers.0.q", columns, 64)
    assert said in caught.value.remedy
