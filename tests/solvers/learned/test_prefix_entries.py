from __future__ import annotations

import torch

from mobilequant.arch import point
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import tiny_model
from mobilequant.solvers.learned.prefix_entries import PrefixEntries

MODEL = tiny_model("qwen3")
PREFIX = compute_prefix(MODEL, (1, 5))
PART = "layers.1"


def test_entries_start_as_they_are_and_move_in_units_of_their_size():
    piece = PrefixEntries(PREFIX)
    keys, values = PREFIX.keys[1], PREFIX.values[1]
    assert piece.rewrite(MODEL.tensors, PART) == {} and piece.parameters("head") == {}
    assert all(torch.equal(*pair) for pair in zip(piece.rewrite_cache(keys, values, PART), (keys, values), strict=True))
    leaves = piece.parameters(PART)
    assert list(leaves) == [f"{PART}.prefix_key", f"{PART}.prefix_value"]
    with torch.no_grad():
        for leaf in leaves.values():
            leaf += 0.5
    for moved, before in zip(piece.rewrite_cache(keys, values, PART), (keys, values), strict=True):
        torch.testing.assert_close(moved - before, torch.full_like(before, 0.5 * before.square().mean().sqrt()))
    sum(each.square().sum() for each in piece.rewrite_cache(keys, values, PART)).backward()
    assert all((leaf.grad != 0).all() for leaf in leaves.values())


def test_a_model_that_holds_tuned_entries_gives_them_back():
    tuned = {}
    for layer in range(MODEL.arch.num_layers):
        tuned[point.at(layer, point.PREFIX_KEYS)] = PREFIX.keys[layer] + 1
        tuned[point.at(layer, point.PREFIX_VALUES)] = PREFIX.values[layer] - 1
    model = MODEL.with_tensors(tuned)
    found = compute_prefix(model, PREFIX.tokens)
    assert torch.equal(found.keys[0], PREFIX.keys[0] + 1) and torch.equal(found.values[1], PREFIX.values[1] - 1)
    tokens = torch.tensor([[7, 8, 9]])
    assert not torch.allclose(forward(model, tokens, prefix=found), forward(model, tokens, prefix=PREFIX))
    assert torch.equal(forward(model, tokens, prefix=PREFIX), forward(MODEL, tokens, prefix=PREFIX))
