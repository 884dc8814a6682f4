"""Tiny random models of every family: for tests, for trying a recipe in a second, and for accepting a new family.

Sizes are odd on purpose (heads that do not divide evenly into powers of two, grouped heads, windows shorter than a
sentence), gains and biases are far from one and zero, so that a mistake in any of them changes the logits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mobilequant.arch import point, registry
from mobilequant.arch.architecture import Architecture
from mobilequant.models.canonical import expected_shapes
from mobilequant.models.model import Model

QKV = ("q", "k", "v")

BASE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rope_theta": 10_000.0,
    "bos_token_id": 1,
    "tie_word_embeddings": False,
}
FULL_HEADS = {"num_key_value_heads": 4}
GEMMA = {"head_dim": 16, "tie_word_embeddings": True}
WINDOWED = {**GEMMA, "num_hidden_layers": 4, "sliding_window": 6, "query_pre_attn_scalar": 10}

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": BASE,
    "mistral": {**BASE, "sliding_window": 6},
    "qwen2": {**BASE, "tie_word_embeddings": True},
    "qwen3": {**BASE, "head_dim": 16, "tie_word_embeddings": True},
    "gemma": {**BASE, **GEMMA, "num_key_value_heads": 1},
    "gemma2": {**BASE, **WINDOWED, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    "gemma3_text": {**BASE, **WINDOWED, "sliding_window_pattern": 3, "rope_theta": 1e6, "rope_local_base_freq": 1e4},
    "stablelm": {**BASE, **FULL_HEADS, "hidden_size": 64, "use_qkv_bias": True},
    "phi3": {**BASE, "sliding_window": 6, "pad_token_id": 0},
    "opt": {
        **{key: BASE[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")},
        "ffn_dim": 80,
        "word_embed_proj_dim": 48,
        "max_position_embeddings": 64,
        "bos_token_id": 2,
        "tie_word_embeddings": True,
    },
    "gpt2": {
        "vocab_size": 96,
        "n_embd": 48,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": 80,
        "n_positions": 64,
        "bos_token_id": 1,
        "tie_word_embeddings": True,
    },
    "gpt_neox": {**BASE, "hidden_size": 64, "rotary_emb_base": 10_000, "rotary_pct": 0.25},
}

ALL_LINEARS = ("q", "k", "v", "o", "up", "down")
BIASED: dict[str, tuple[str, ...]] = {
    "qwen2": QKV,
    "stablelm": QKV,
    "opt": ALL_LINEARS,
    "gpt2": ALL_LINEARS,
    "gpt_neox": ALL_LINEARS,
}


def tiny_config(model_type: str, **overrides: Any) -> dict[str, Any]:
    """A config.json of a tiny model; ``overrides`` replace or add keys. CheckpointError for an unknown family."""
    spec = registry.find(model_type)
    return {"model_type": model_type, **CONFIGS[spec.model_types[0]], **overrides}


def tiny_model(model_type: str, *, seed: int = 0, **overrides: Any) -> Model:
    """A random float32 model of a family; the same seed gives the same tensors."""
    arch = registry.find(model_type).resolve(tiny_config(model_type, **overrides))
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, shape in expected_shapes(arch).items():
        module = name.removesuffix(".weight")
        tensors[name] = _random_weight(module, shape, generator)
        if _has_bias(arch, model_type, module):
            tensors[f"{module}.bias"] = 0.2 * torch.randn(shape[0], generator=generator)
    if arch.tied_head:
        tensors["lm_head.weight"] = tensors["embed.weight"]
    return Model(arch, tensors, source=f"tiny {model_type}, seed {seed}")


def _random_weight(module: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Gains around one, embeddings of width 0.3, matrices that keep the variance of their input."""
    if module.endswith("norm"):
        return 1 + 0.2 * torch.randn(shape, generator=generator)
    spread = 0.3 if module in ("embed", "positions") else shape[1] ** -0.5
    return spread * torch.randn(shape, generator=generator)


def _has_bias(arch: Architecture, model_type: str, module: str) -> bool:
    role = point.role_of(module)
    return role in BIASED.get(model_type, ()) or (arch.norm == "layer" and role.endswith("norm"))
