"""Every derived pair leaves the function unchanged, on every family, for any positive scale."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilequant.arch import pair as pairs
from mobilequant.arch import registry
from mobilequant.arch.pair import scale_pairs
from mobilequant.models.decoder import embed, forward
from mobilequant.models.tiny import tiny_model
from mobilequant.transforms.scale import expand, fold, reduce_max

TOLERANCE = 1e-12  # of the largest logit
TOKENS = torch.arange(11).reshape(1, 11) * 5 % 96
VARIANTS = [
    *((name, {}) for name in registry.model_types()),
    ("llama", {"num_key_value_heads": 1}),
    ("llama", {"partial_rotary_factor": 0.5, "num_key_value_heads": 4}),
    ("stablelm", {"use_parallel_residual": True, "num_key_value_heads": 2}),
    ("gpt_neox", {"use_parallel_residual": False}),
]


def double_model(model_type, overrides):
    return tiny_model(model_type, seed=3, **overrides).to(dtype=torch.float64)


def random_scale(num_channels, seed=0):
    """Log-uniform between 1/8 and 8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.exp2(6 * torch.rand(num_channels, generator=generator, dtype=torch.float64) - 3)


def relative_change(model, changed):
    before, after = forward(model, TOKENS), forward(model.with_tensors(changed), TOKENS)
    return ((after - before).abs().max() / before.abs().max()).item()


@pytest.mark.parametrize(("model_type", "overrides"), VARIANTS, ids=str)
def test_each_pair_alone_preserves_the_logits(model_type, overrides):
    model = double_model(model_type, overrides)
    for pair in scale_pairs(model.arch):
        changed = fold(model.tensors, model.arch, pair, random_scale(pair.num_channels))
        assert relative_change(model, changed) < TOLERANCE, pair.name
        same = [name for name, tensor in changed.items() if torch.equal(tensor, model.tensors.get(name, tensor[:0]))]
        assert not same, pair.name


@pytest.mark.parametrize(("model_type", "overrides"), VARIANTS, ids=str)
def test_all_pairs_together_preserve_the_logits(model_type, overrides):
    model = double_model(model_type, overrides)
    tensors = dict(model.tensors)
    for seed, pair in enumerate(scale_pairs(model.arch)):
        tensors |= fold(tensors, model.arch, pair, random_scale(pair.num_channels, seed))
    assert relative_change(model, tensors) < TOLERANCE


@settings(max_examples=20, deadline=None)
@given(exponents=st.lists(st.floats(-8, 8), min_size=12, max_size=12))
def test_any_positive_scale_between_queries_and_keys(exponents):
    model = double_model("llama", {})
    pair = next(pair for pair in scale_pairs(model.arch) if pair.kind == "q_to_k")
    changed = fold(model.tensors, model.arch, pair, torch.tensor(exponents, dtype=torch.float64).exp2())
    assert relative_change(model, changed) < TOLERANCE


@pytest.mark.parametrize(("model_type", "overrides"), VARIANTS, ids=str)
def test_stated_points_change_by_the_scale_and_no_other_does(model_type, overrides):
    """``divided`` and ``multiplied`` name exactly the activations whose ranges must be measured again."""
    model = double_model(model_type, overrides)
    before = activations(model)
    for pair in scale_pairs(model.arch):
        changed = fold(model.tensors, model.arch, pair, torch.full((pair.num_channels,), 4.0))
        after = activations(model.with_tensors(changed))
        ratios = {name: (after[name].norm() / before[name].norm()).item() for name in before}
        expected = {**dict.fromkeys(pair.divided, 0.25), **dict.fromkeys(pair.multiplied, 4.0)}
        assert ratios == pytest.approx({name: expected.get(name, 1.0) for name in before}, rel=1e-9), pair.name


def activations(model):
    seen = {}
    forward(model, TOKENS, tap=lambda name, value: seen.setdefault(name, value))
    return seen


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "stablelm"])
def test_breaking_the_rope_tie_changes_the_logits(model_type, monkeypatch):
    """With a scale of its own for each dimension, RoPE mixes what was scaled differently."""
    model = double_model(model_type, {})
    monkeypatch.setattr(pairs, "_head_index", lambda arch, layer: list(range(arch.head_dim)))
    pair = next(pair for pair in pairs.scale_pairs(model.arch) if pair.kind == "q_to_k")
    changed = fold(model.tensors, model.arch, pair, random_scale(pair.num_channels))
    assert relative_change(model, changed) > 1e-4


def test_breaking_the_group_tie_changes_the_logits(monkeypatch):
    """Query heads of one group read the same value head, so they cannot carry another head's scale."""
    model = double_model("llama", {})

    def shuffled(arch, head):
        return pairs._repeat_heads(head, [query % arch.num_kv_heads for query in range(arch.num_heads)])

    monkeypatch.setattr(pairs, "_per_group", shuffled)
    pair = next(pair for pair in scale_pairs(model.arch) if pair.kind == "v_to_o")
    changed = fold(model.tensors, model.arch, pair, random_scale(pair.num_channels))
    assert relative_change(model, changed) > 1e-4


def test_up_to_down_would_not_be_exact_through_gelu():
    """Why GPT-2 has no such pair."""
    model = double_model("gpt2", {})
    relu = double_model("opt", {})
    pair = next(pair for pair in scale_pairs(relu.arch) if pair.kind == "up_to_down")
    changed = fold(model.tensors, model.arch, pair, random_scale(pair.num_channels))
    assert relative_change(model, changed) > 1e-4


def test_folding_a_tied_head_keeps_one_matrix_and_the_embedding_takes_it_back():
    model = double_model("gemma", {})
    pair, scale = scale_pairs(model.arch)[-1], random_scale(48)
    folded = model.with_tensors(fold(model.tensors, model.arch, pair, scale))
    again = folded.with_tensors(fold(folded.tensors, model.arch, pair, scale))
    assert again.arch.tied_head
    torch.testing.assert_close(again.tensors["embed.weight"], model.tensors["embed.weight"] * scale**2)
    torch.testing.assert_close(again.tensors["embed.column_scale"], scale**2)
    torch.testing.assert_close(embed(again, TOKENS), embed(model, TOKENS))


def test_fold_keeps_the_dtype_of_the_tensors():
    model = tiny_model("qwen2")
    pair = scale_pairs(model.arch)[0]
    changed = fold(model.tensors, model.arch, pair, random_scale(pair.num_channels))
    assert {tensor.dtype for tensor in changed.values()} == {torch.float32}


@pytest.mark.parametrize("bad", [torch.ones(3), torch.zeros(48), -torch.ones(48), torch.full((48,), torch.inf)])
def test_impossible_scales_are_refused(bad):
    model = tiny_model("llama")
    with pytest.raises(ValueError, match="norm_to_qkv"):
        fold(model.tensors, model.arch, scale_pairs(model.arch)[0], bad)


def test_reduce_max_and_expand_follow_the_tie():
    index = [0, 1, 0, 2]
    reduced = reduce_max(torch.tensor([1.0, 5.0, 3.0, 2.0]), index, 3)
    assert reduced.tolist() == [3.0, 5.0, 2.0]
    assert expand(reduced, index).tolist() == [3.0, 5.0, 3.0, 2.0]
