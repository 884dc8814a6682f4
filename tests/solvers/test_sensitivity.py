from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mobilequant.arch import point
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.tiny import tiny_model
from mobilequant.numerics.qtype import INT16
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.sensitivity import (
    choose_sixteen_bit,
    down_inputs,
    per_element,
    rounding_costs,
    sixteen_bit_ranges,
)

HARD = 2


def _quantized(layers=4):
    """A model in which the down input of layer 2 has one channel far above the others that down hardly reads."""
    model = tiny_model("llama", num_hidden_layers=layers)
    up, down = (model.tensors[f"layers.{HARD}.{role}.weight"].clone() for role in ("up", "down"))
    up[5] *= 500.0
    down[:, 5] /= 500.0
    model = model.with_tensors({f"layers.{HARD}.up.weight": up, f"layers.{HARD}.down.weight": down})
    windows = torch.randint(0, 96, (4, 16), generator=torch.Generator().manual_seed(2))
    methods = [make("ranges", {"estimator": "minmax"}), make("rtn", {})]
    scheme = Scheme(8, sixteen_bit=frozenset({point.at(HARD, "up")}))  # else it is up that ruins the layer
    return run_methods(model, scheme, methods, windows, prefix=(1,)), windows


def test_the_hard_layer_costs_most():
    quantized, windows = _quantized()
    costs = rounding_costs(quantized, windows, formats(quantized, down_inputs(quantized)))
    assert max(costs, key=costs.get) == point.at(HARD, "product")
    assert min(costs.values()) >= 0


def formats(quantized, points):
    return {name: quantized.activations[name] for name in points}


def test_a_cost_is_shared_by_the_elements_of_a_point():
    quantized, windows = _quantized()
    costs = per_element(quantized, windows, {"layers.0.product": 1.0, "layers.0.scores": 1.0, "layers.0.o": 1.0})
    arch, seen = quantized.model.arch, 1 + 16
    assert costs["layers.0.product"] == pytest.approx(1 / arch.intermediate_size)
    assert costs["layers.0.scores"] == pytest.approx(1 / (arch.num_heads * seen))
    assert costs["layers.0.o"] == pytest.approx(1 / arch.hidden_size)


def test_choice_respects_the_budget():
    quantized, windows = _quantized()
    assert choose_sixteen_bit(quantized, windows, fraction=0.25) == {point.at(HARD, "product")}
    assert choose_sixteen_bit(quantized, windows, fraction=0.24) == frozenset()
    assert len(choose_sixteen_bit(quantized, windows, fraction=0.5)) == 2


def test_wide_points_cover_their_extremes_and_are_not_chosen_again():
    quantized, windows = _quantized()
    hard = point.at(HARD, "product")
    ranges = sixteen_bit_ranges(quantized, windows, frozenset({hard}))
    assert ranges.keys() == {hard}
    assert ranges[hard].qtype == INT16 and ranges[hard].zero_point == 0
    assert ranges[hard].scale * INT16.qmax >= 255 * quantized.activations[hard].scale * 0.5
    wide = replace(quantized, activations={**quantized.activations, **ranges})
    assert hard not in choose_sixteen_bit(wide, windows, fraction=0.5)
    assert set(down_inputs(wide)) == set(down_inputs(quantized)) - {hard}
