from __future__ import annotations

import pytest
import torch

from mobilequant.arch import point
from mobilequant.models.decoder import forward
from mobilequant.models.tiny import CONFIGS, tiny_model
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import INT16, UINT8
from mobilequant.solvers.learned.vector_tuning import VectorTuning

TOKENS = torch.tensor([[7, 8, 9, 10]])


def made(model):
    qparams = {
        name: QParams(0.5, 0, INT16) if point.role_of(name) in ("o", "down") else QParams(0.25, 128, UINT8)
        for name in point.all_points(model.arch)
    }
    return VectorTuning(model, qparams)


def rewritten(model, piece):
    parts = [*(f"layers.{layer}" for layer in range(model.arch.num_layers)), "head"]
    return {name: tensor for part in parts for name, tensor in piece.rewrite(model.tensors, part).items()}


@pytest.mark.parametrize("family", CONFIGS)
def test_it_starts_as_the_model_and_reaches_all_that_is_no_matrix_of_a_table(family):
    model = tiny_model(family)
    piece = made(model)
    changed = rewritten(model, piece)
    torch.testing.assert_close(forward(model.with_tensors(changed), TOKENS), forward(model, TOKENS))
    norms = {name for name in model.tensors if name.endswith("norm.weight")}
    assert set(changed) == norms | {f"{name}.bias" for name in model.linears() if name.startswith("layers.")}


def test_gains_move_by_factors_and_biases_by_steps():
    model = tiny_model("qwen2")
    piece = made(model)
    leaves = piece.parameters("layers.0")
    with torch.no_grad():
        leaves["layers.0.attn_norm.gain"] += 0.1
        leaves["layers.0.q.shift"] += 2
        leaves["layers.0.down.shift"] += 2
    changed = rewritten(model, piece)
    gain, bias = (model.tensors[f"layers.0.{name}"] for name in ("attn_norm.weight", "q.bias"))
    torch.testing.assert_close(changed["layers.0.attn_norm.weight"], gain * 1.1051709)
    torch.testing.assert_close(changed["layers.0.q.bias"], bias + 0.5)
    torch.testing.assert_close(changed["layers.0.down.bias"], torch.full_like(changed["layers.0.down.bias"], 256.0))
    forward(model.with_tensors(changed), TOKENS).square().sum().backward()
    assert all(leaf.grad.any() for leaf in leaves.values())
