from __future__ import annotations

import pytest
import torch

from mobilequant.arch import registry
from mobilequant.errors import CheckpointError
from mobilequant.models.canonical import build_model, expected_shapes, hf_module
from mobilequant.models.tiny import tiny_config, tiny_model


def checkpoint(model_type="llama", dtype=torch.float32, **overrides):
    """A config and random tensors under their Hugging Face names (families without fused tensors)."""
    model = tiny_model(model_type, **overrides)
    spec = registry.find(model_type)
    tensors = {}
    for name, tensor in model.tensors.items():
        module, _, kind = name.rpartition(".")
        tensors[f"{hf_module(spec, module)}.{kind}"] = tensor.to(dtype)
    return tiny_config(model_type, **overrides), tensors


def test_llama_tensors_come_back_as_they_were():
    config, tensors = checkpoint()
    built, tiny = build_model(config, tensors), tiny_model("llama")
    assert built.tensors.keys() == tiny.tensors.keys()
    assert all(torch.equal(built.tensors[name], tensor) for name, tensor in tiny.tensors.items())


def test_half_precision_becomes_float32_before_one_is_added_to_the_gains():
    config, tensors = checkpoint("gemma", torch.bfloat16)
    gain = tensors["model.norm.weight"]
    built = build_model(config, tensors)
    assert {tensor.dtype for tensor in built.tensors.values()} == {torch.float32}
    assert torch.equal(built.tensors["final_norm.weight"], gain.float() + 1)


def test_tied_head_is_the_same_object():
    config, tensors = checkpoint("qwen2")
    del tensors["lm_head.weight"]
    built = build_model(config, tensors)
    assert built.tensors["lm_head.weight"] is built.tensors["embed.weight"]


def test_tied_head_that_differs_is_refused():
    config, tensors = checkpoint("qwen2")
    tensors["lm_head.weight"] = tensors["lm_head.weight"] + 1
    with pytest.raises(CheckpointError, match="two different matrices") as caught:
        build_model(config, tensors)
    assert "tie_word_embeddings" in caught.value.remedy


def test_learned_positions_lose_their_unused_rows():
    config, tensors = checkpoint("opt")
    name = "model.decoder.embed_positions.weight"
    positions = tensors[name]
    tensors[name] = torch.cat((torch.zeros(2, 48), positions))
    assert torch.equal(build_model(config, tensors).tensors["positions.weight"], positions)


def test_fused_and_transposed_qkv_of_gpt2():
    config, tensors = checkpoint("gpt2")
    tiny = tiny_model("gpt2")
    for name in [name for name in tensors if ".h." in name and tensors[name].dim() == 2]:
        tensors[name] = tensors[name].T
    for layer in range(2):
        for kind in ("weight", "bias"):
            parts = [tiny.tensors[f"layers.{layer}.{role}.{kind}"] for role in "qkv"]
            fused = torch.cat(parts)
            tensors[f"transformer.h.{layer}.attn.c_attn.{kind}"] = fused.T if fused.dim() == 2 else fused
    tensors["transformer.h.0.attn.bias"] = torch.ones(64, 64, dtype=torch.bool)  # the causal mask, a buffer
    built = build_model(config, tensors)
    assert all(torch.equal(built.tensors[name], tensor) for name, tensor in tiny.tensors.items())


def test_interleaved_qkv_of_neox():
    config = tiny_config("gpt_neox")
    tiny = tiny_model("gpt_neox")
    spec = registry.find("gpt_neox")
    tensors = {}
    for name, tensor in tiny.tensors.items():
        module, _, kind = name.rpartition(".")
        tensors[f"{hf_module(spec, module)}.{kind}"] = tensor
    for layer in range(2):
        for kind in ("weight", "bias"):
            heads = [tiny.tensors[f"layers.{layer}.{role}.{kind}"].unflatten(0, (4, 16)) for role in "qkv"]
            fused = torch.stack(heads, dim=1).flatten(0, 2)
            tensors[f"gpt_neox.layers.{layer}.attention.query_key_value.{kind}"] = fused
    built = build_model(config, tensors)
    assert all(torch.equal(built.tensors[name], tensor) for name, tensor in tiny.tensors.items())


def test_known_buffers_are_ignored():
    config, tensors = checkpoint()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(6)
    build_model(config, tensors)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(value):
    config, tensors = checkpoint()
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.mlp\.up_proj\.weight contains NaN"):
        build_model(config, tensors)


def test_missing_tensors_are_named_as_the_checkpoint_names_them():
    config, tensors = checkpoint()
    del tensors["model.layers.1.self_attn.q_proj.weight"]
    with pytest.raises(CheckpointError, match=r"lacks tensors: model\.layers\.1\.self_attn\.q_proj\.weight\."):
        build_model(config, tensors)


def test_many_missing_tensors_are_counted():
    config, tensors = checkpoint()
    with pytest.raises(CheckpointError, match=r"and \d+ more"):
        build_model(config, {"model.embed_tokens.weight": tensors["model.embed_tokens.weight"]})


def test_missing_fused_tensor_is_named_once():
    config = tiny_config("phi3")
    with pytest.raises(CheckpointError) as caught:
        build_model({**config, "num_hidden_layers": 1}, {})
    assert caught.value.message.count("qkv_proj") == 1


@pytest.mark.parametrize("name", ["score.weight", "model.layers.2.mlp.up_proj.weight", "model.norm.scale", "oddity"])
def test_left_over_tensors_are_refused(name):
    config, tensors = checkpoint()
    tensors[name] = torch.ones(2)
    with pytest.raises(CheckpointError, match=f"unknown tensors: {name}"):
        build_model(config, tensors)


@pytest.mark.parametrize("module", ["model.norm", "model.embed_tokens"])
def test_bias_that_the_walker_would_not_read_is_refused(module):
    config, tensors = checkpoint()
    tensors[f"{module}.bias"] = torch.ones(48)
    with pytest.raises(CheckpointError, match=f"Unexpected bias {module}"):
        build_model(config, tensors)


def test_wrong_shapes_are_refused():
    config, tensors = checkpoint()
    config["intermediate_size"] = 81
    with pytest.raises(CheckpointError, match=r"gate_proj.*has the shape \(80, 48\).*\(81, 48\)"):
        build_model(config, tensors)


def test_wrong_height_of_a_fused_tensor_is_refused():
    config = tiny_config("phi3")
    with pytest.raises(CheckpointError, match=r"qkv_proj\.weight has the shape \(90, 48\).*96 rows"):
        build_model(config, {"model.layers.0.self_attn.qkv_proj.weight": torch.ones(90, 48)})


def test_quantized_weights_are_refused():
    config, tensors = checkpoint()
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name] = tensors[name].to(torch.int8)
    with pytest.raises(CheckpointError, match="already quantized"):
        build_model(config, tensors)


def test_unknown_or_missing_model_type_is_refused():
    with pytest.raises(CheckpointError, match="No family"):
        build_model({}, {})


@pytest.mark.parametrize("model_type", registry.model_types())
def test_tiny_models_are_reproducible_and_complete(model_type):
    first, second = tiny_model(model_type, seed=1), tiny_model(model_type, seed=1)
    other = tiny_model(model_type, seed=2)
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert not torch.equal(first.tensors["embed.weight"], other.tensors["embed.weight"])
    assert {name: tuple(t.shape) for name, t in first.tensors.items() if name.endswith("weight")} == expected_shapes(
        first.arch
    )
