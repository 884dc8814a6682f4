"""What a point is said to hold is what the walker puts there."""

import pytest
import torch

from mobilequant.arch import point, registry
from mobilequant.arch.size import elements_per_token
from mobilequant.models.decoder import forward
from mobilequant.models.tiny import tiny_model

TOKENS = 7


@pytest.mark.parametrize("family", [spec.model_types[0] for spec in registry.SPECS])
def test_elements_are_those_of_the_walker(family):
    model, found = tiny_model(family), {}

    def count(name, value):
        found[name] = value.numel() // TOKENS
        return value

    forward(model, torch.arange(TOKENS)[None], tap=count)
    expected = {name: elements_per_token(model.arch, name, seen=TOKENS) for name in point.all_points(model.arch)}
    assert {name: found[name] for name in expected} == expected
