from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.numerics.qtype import INT4, INT8
from mobilequant.solvers.rounding import nearest_codes


def test_halves_round_up_and_ends_saturate():
    weight = torch.tensor([[-1.5, -0.5, 0.5, 1.5, 100.0, -100.0]])
    assert nearest_codes(weight, torch.ones(1, 1), INT4).tolist() == [[-1, 0, 1, 2, 7, -8]]
    assert nearest_codes(weight * 10, torch.ones(1, 1), INT8).tolist() == [[-15, -5, 5, 15, 127, -127]]


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=30), st.floats(2.0**-20, 1e3, width=32))
def test_values_on_the_grid_come_back(codes, scale):
    grid = torch.tensor([codes], dtype=torch.float32) * scale
    assert nearest_codes(grid, torch.tensor([[scale]]), INT4).tolist() == [codes]
