from __future__ import annotations

import contextlib
import math
from pathlib import Path

import pytest

from mobilequant.arch import families, registry
from mobilequant.errors import CheckpointError
from mobilequant.models.tiny import tiny_config


def resolve(model_type, **overrides):
    return registry.find(model_type).resolve(tiny_config(model_type, **overrides))


def test_a_family_file_is_at_most_fifty_lines():
    folder = Path(families.__file__).parent
    lengths = {path.name: len(path.read_text().splitlines()) for path in folder.glob("*.py")}
    assert max(lengths.values()) <= 50, lengths


def test_model_types_and_gguf_names_are_unique():
    for names in ([n for s in registry.SPECS for n in s.model_types], [n for s in registry.SPECS for n in s.gguf]):
        assert len(names) == len(set(names))


@pytest.mark.parametrize(("typo", "nearest"), [("lama", "llama"), ("qwen4", "qwen3"), ("gemma3", "gemma3_text")])
def test_unknown_family_names_the_nearest_and_the_page(typo, nearest):
    with pytest.raises(CheckpointError, match=nearest) as caught:
        registry.find(typo)
    assert "docs/guide/add-a-family.md" in caught.value.remedy


def test_unknown_family_that_resembles_nothing_lists_all():
    with pytest.raises(CheckpointError, match="llama, mistral"):
        registry.find("~")


@pytest.mark.parametrize(
    ("model_type", "overrides", "said"),
    [
        ("llama", {"hidden_size": None}, "hidden_size is missing"),
        ("llama", {"hidden_size": "48"}, "hidden_size must be an integer"),
        ("llama", {"hidden_size": 0}, "hidden_size must be an integer"),
        ("llama", {"hidden_size": True}, "hidden_size must be an integer"),
        ("llama", {"hidden_size": 50}, "50 cannot be divided by 4 heads"),
        ("llama", {"num_key_value_heads": 3}, "3 does not divide 4 query heads"),
        ("llama", {"num_hidden_layers": 10**12}, "num_hidden_layers must be an integer from 1 to 4096"),
        ("llama", {"head_dim": 10**9}, "head_dim"),
        ("llama", {"rms_norm_eps": -1e-6}, "rms_norm_eps must be a positive number"),
        ("llama", {"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ("llama", {"hidden_act": "xielu"}, "activation 'xielu' is unknown"),
        ("llama", {"hidden_act": ["silu"]}, "activation"),
        ("llama", {"tie_word_embeddings": "yes"}, "must be true or false"),
        ("llama", {"bos_token_id": "1"}, "bos_token_id"),
        ("llama", {"num_local_experts": 8}, "mixture of experts"),
        ("llama", {"quantization_config": {"bits": 4}}, "already quantized"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "not causal"),
        ("gemma3_text", {"sliding_window_pattern": 0}, "sliding period"),
        ("gemma3_text", {"layer_types": ["full_attention"]}, "layer_types"),
        ("gemma3_text", {"layer_types": ["chunked_attention"] * 4}, "layer_types"),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": "1"}, "max_window_layers"),
        ("gemma2", {"final_logit_softcapping": 0}, "final_logit_softcapping"),
        ("gemma2", {"query_pre_attn_scalar": -1}, "attention scale"),
        ("mistral", {"sliding_window": -5}, "sliding_window"),
        ("stablelm", {"qk_layernorm": True}, "LayerNorm per query and key head"),
        ("opt", {"do_layer_norm_before": False}, "norms after the branches"),
        ("opt", {"word_embed_proj_dim": 24}, "projected embedding"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scaled by depth"),
        ("gpt2", {"add_cross_attention": True}, "cross attention"),
    ],
    ids=str,
)
def test_impossible_numbers_and_unsupported_variants_are_refused(model_type, overrides, said):
    with pytest.raises(CheckpointError, match=said):
        resolve(model_type, **overrides)


HOSTILE = [0, -1, 1.5, True, "x", [], [1], {}, {"a": 1}, 10**400, float("nan"), float("inf"), 1e308, 1e-308]
HOSTILE += [{"rope_type": ["linear"]}, {"type": "linear", "factor": 1e-308}, {"full_attention": 3}]
HOSTILE += [{"type": "llama3", "factor": 10**400}, {"type": "longrope", "short_factor": [0] * 6}]
SCALARS = ["head_dim", "partial_rotary_factor", "rope_scaling", "rope_parameters", "layer_types", "sliding_window"]


@pytest.mark.parametrize("model_type", registry.model_types())
def test_hostile_values_end_in_a_clear_error_or_a_finite_architecture(model_type):
    """Whatever stands under one key, nothing but CheckpointError gets out."""
    for key in (*tiny_config(model_type), *SCALARS):
        for value in HOSTILE:
            with contextlib.suppress(CheckpointError):
                config = {**tiny_config(model_type), key: value}
                arch = registry.find(str(config["model_type"])).resolve(config)
                assert 0 < arch.attention_scale < math.inf
                assert all(
                    0 <= f < math.inf for layer in arch.layers if layer.rope for f in layer.rope.inverse_frequencies
                )


def test_sliding_layers_follow_each_familys_pattern():
    def windows(model_type, **overrides):
        return [layer.window for layer in resolve(model_type, **overrides).layers]

    assert windows("llama") == [None, None]
    assert windows("mistral") == [6, 6]
    assert windows("gemma2") == [6, None, 6, None]
    assert windows("gemma3_text") == [6, 6, None, 6]
    assert windows("gemma2", sliding_window=None) == [None] * 4
    assert windows("qwen2", sliding_window=8) == [None, None]
    assert windows("qwen2", sliding_window=8, use_sliding_window=True, max_window_layers=1) == [None, 8]


def test_omitted_keys_mean_the_familys_defaults():
    bare = {"vocab_size": 8, "hidden_size": 512, "intermediate_size": 8, "num_hidden_layers": 1}
    bare |= {"num_attention_heads": 4, "max_position_embeddings": 8}
    llama = registry.find("llama").resolve(bare)
    assert (llama.head_dim, llama.num_kv_heads, llama.tied_head, llama.norm_eps) == (128, 4, False, 1e-6)
    gemma2 = registry.find("gemma2").resolve(bare)
    assert (gemma2.head_dim, gemma2.attention_softcap, gemma2.final_softcap) == (256, 50.0, 30.0)
    assert (gemma2.attention_scale, gemma2.layers[0].window, gemma2.tied_head) == (1 / 16, 4096, True)
    gpt2 = registry.find("gpt2").resolve({"vocab_size": 8, "n_embd": 16, "n_layer": 1, "n_head": 2})
    assert (gpt2.intermediate_size, gpt2.max_context) == (64, 1024)


def test_bos_rule_of_the_tokenizer_wins_over_the_familys():
    assert resolve("gemma").add_bos
    assert not resolve("gemma", add_bos_token=False).add_bos
    assert resolve("llama", add_bos_token=True).add_bos


def test_first_of_several_bos_tokens():
    assert resolve("llama", bos_token_id=[5, 6]).bos_token == 5


def test_bos_outside_the_vocabulary():
    assert resolve("llama", bos_token_id=95).bos_token == 95
    assert resolve("llama", bos_token_id=96).bos_token is None
    with pytest.raises(CheckpointError, match="bos_token_id 96 is outside the vocabulary of 96"):
        resolve("llama", bos_token_id=96, add_bos_token=True)
