"""Factors of many places beside what plain indexing gives."""

from __future__ import annotations

import pytest
import torch

from mobilequant.solvers.learned.gathered_factor import Gather, Place

SIZES = {"one": 3, "idle": 4, "other": 2}
PLACES = {
    "rows": Place("one", (0, 1, 2), divided=True),
    "columns": Place("other", (1, 0, 1, 1), divided=False),
    "same": Place("one", (2, 2, 0), divided=False),
}
GATHER = Gather.of(PLACES, SIZES, torch.device("cpu"))


def drawn():
    return torch.rand(5, generator=torch.Generator().manual_seed(4), dtype=torch.float64) + 0.5


def test_only_pairs_that_are_used_have_scales_in_the_order_of_their_places():
    assert GATHER.pairs == ("one", "other")


def test_each_place_has_the_entries_of_its_pair():
    scales = drawn()
    one, other = scales[:3], scales[3:]
    wanted = {"rows": 1 / one, "columns": other[[1, 0, 1, 1]], "same": one[[2, 2, 0]]}
    found = GATHER(scales)
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], each) for name, each in wanted.items())


def test_gradients_are_those_of_indexing_and_division():
    assert torch.autograd.gradcheck(lambda scales: tuple(GATHER(scales).values()), (drawn().requires_grad_(),))


def test_a_factor_that_nobody_reads_moves_nothing():
    scales = drawn().requires_grad_()
    GATHER(scales)["columns"].sum().backward()
    assert torch.equal(scales.grad, torch.tensor([0.0, 0.0, 0.0, 1.0, 3.0], dtype=torch.float64))


@pytest.mark.parametrize("place", PLACES)
def test_a_single_place_is_enough(place):
    scales = drawn()[: SIZES[PLACES[place].pair]]
    (found,) = Gather.of({place: PLACES[place]}, SIZES, torch.device("cpu"))(scales).values()
    chosen = scales[list(PLACES[place].entries)]
    assert torch.equal(found, 1 / chosen if PLACES[place].divided else chosen)
