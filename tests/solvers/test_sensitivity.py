from __future__ import annotations

import torch

from mobilequant.arch import point
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.tiny import tiny_model
from mobilequant.numerics.qtype import INT16, UINT8
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.sensitivity import choose_sixteen_bit, down_inputs, rounding_costs, sixteen_bit_ranges, widened

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
    costs = rounding_costs(quantized, windows, down_inputs(quantized))
    assert max(costs, key=costs.get) == point.at(HARD, "product")
    assert min(costs.values()) >= 0


def test_choice_respects_the_budget():
    quantized, windows = _quantized()
    assert choose_sixteen_bit(quantized, windows, fraction=0.25) == {point.at(HARD, "product")}
    assert choose_sixteen_bit(quantized, windows, fraction=0.24) == frozenset()
    assert len(choose_sixteen_bit(quantized, windows, fraction=0.5)) == 2


def test_widened_points_cover_their_extremes_and_are_not_chosen_again():
    quantized, windows = _quantized()
    hard = point.at(HARD, "product")
    wide = widened(quantized, sixteen_bit_ranges(quantized, windows, frozenset({hard})))
    assert wide.activations[hard].qtype == INT16 and wide.activations[hard].zero_point == 0
    assert wide.scheme.activation_qtype(hard) == INT16
    assert quantized.activations[hard].qtype == UINT8  # the original is untouched
    reach = wide.activations[hard].scale * INT16.qmax
    assert reach >= 255 * quantized.activations[hard].scale * 0.5
    assert hard not in choose_sixteen_bit(wide, windows, fraction=0.5)
    assert set(down_inputs(wide)) == set(down_inputs(quantized)) - {hard}
