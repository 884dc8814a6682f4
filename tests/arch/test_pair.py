from __future__ import annotations

from dataclasses import replace

import pytest

from mobilequant.arch.architecture import Layer, Rope
from mobilequant.arch.pair import ScalePair, consumer_index, producer_index, scale_pairs
from mobilequant.models.tiny import tiny_model

BLOCK = ["norm_to_qkv", "q_to_k", "v_to_o", "norm_to_mlp", "up_to_down"]
WITHOUT_MLP = BLOCK[:-1]
EXPECTED = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "stablelm", "phi3"), BLOCK * 2),
    **dict.fromkeys(("gemma2", "gemma3_text"), BLOCK * 4),
    "opt": BLOCK * 2,  # relu lets a positive scale through
    **dict.fromkeys(("gpt2", "gpt_neox"), WITHOUT_MLP * 2),  # gelu does not
}


def block_pair(arch, kind) -> ScalePair:
    return next(pair for pair in scale_pairs(arch) if pair.kind == kind)


@pytest.mark.parametrize("model_type", EXPECTED)
def test_pairs_of_each_family(model_type):
    pairs = scale_pairs(tiny_model(model_type).arch)
    assert [pair.kind for pair in pairs] == [*EXPECTED[model_type], "norm_to_head"]
    assert len({pair.name for pair in pairs}) == len(pairs)


def test_a_head_that_is_the_embedding_too_says_so():
    assert [scale_pairs(tiny_model(name).arch)[-1].tied for name in ("llama", "gemma")] == [False, True]


def test_shared_block_norm_feeds_both_branches():
    arch = tiny_model("stablelm", use_parallel_residual=True).arch
    pair = block_pair(arch, "norm_to_qkv")
    assert pair.consumers == tuple(f"layers.0.{role}" for role in ("q", "k", "v", "gate", "up"))
    assert all(other.kind != "norm_to_mlp" for other in scale_pairs(arch))


def test_value_scales_repeat_over_the_query_heads_of_a_group():
    arch = replace(tiny_model("llama").arch, head_dim=2)
    pair = block_pair(arch, "v_to_o")
    assert pair.num_channels == 4
    assert producer_index(arch, pair) == [0, 1, 2, 3]
    assert consumer_index(arch, pair) == [0, 1, 0, 1, 2, 3, 2, 3]


def test_turning_dimensions_share_a_scale_as_the_module_draws_it():
    layer = Layer(Rope((1.0, 0.1)))
    arch = replace(tiny_model("llama").arch, head_dim=6, layers=(layer,), num_heads=2, num_kv_heads=1)
    pair = block_pair(arch, "q_to_k")
    assert pair.num_channels == 4
    assert consumer_index(arch, pair) == [0, 1, 0, 1, 2, 3]
    assert producer_index(arch, pair) == [0, 1, 0, 1, 2, 3] * 2


def test_every_key_head_has_scales_of_its_own():
    layer = Layer(Rope((1.0,)))
    arch = replace(tiny_model("llama").arch, head_dim=2, layers=(layer,))
    pair = block_pair(arch, "q_to_k")
    assert consumer_index(arch, pair) == [0, 0, 1, 1]
    assert producer_index(arch, pair) == [0, 0, 0, 0, 1, 1, 1, 1]


def test_head_norms_share_one_vector():
    arch = tiny_model("qwen3").arch
    pair = block_pair(arch, "q_to_k")
    assert (pair.producers, pair.consumers) == (("layers.0.q_norm",), ("layers.0.k_norm",))
    assert pair.num_channels == arch.head_dim // 2
    assert pair.divided == ("layers.0.q_norm", "layers.0.q_rope")
    assert pair.multiplied == ("layers.0.k_norm", "layers.0.k_rope")


def test_without_rope_every_dimension_is_free():
    arch = tiny_model("opt").arch
    pair = block_pair(arch, "q_to_k")
    assert pair.num_channels == arch.hidden_size
    assert (pair.divided, pair.multiplied) == (("layers.0.q",), ("layers.0.k",))


@pytest.mark.parametrize("model_type", EXPECTED)
def test_no_two_pairs_meet_at_the_rows_or_the_columns_of_a_module(model_type):
    """Folding relies on it: each has one factor."""
    pairs = scale_pairs(tiny_model(model_type).arch)
    sides = [(module, "output") for pair in pairs for module in pair.producers]
    sides += [(module, pair.consumer_axis) for pair in pairs for module in pair.consumers]
    assert len(set(sides)) == len(sides)
