"""From the tensors of a checkpoint to the canonical tensors of ``Model``: one name, one layout for every family.

    name ─▶ canonical name ─▶ transpose ─▶ split fused ─▶ gain + 1 ─▶ drop unused positions ─▶ tie ─▶ check shapes

Nothing is guessed: a tensor that is missing, left over, of the wrong shape, quantized or not finite is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobilequant.arch import point, registry
from mobilequant.arch.architecture import Architecture
from mobilequant.arch.spec import ArchSpec
from mobilequant.errors import CheckpointError
from mobilequant.models.model import Model

FUSED = {"qkv": ("q", "k", "v"), "gate_up": ("gate", "up")}
IGNORED = ("rotary_emb.inv_freq",)  # a buffer that can be computed
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
WRONG_FILES = "Check that config.json and the weight files belong together and that no shard is missing."


def build_model(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    tokenizer_dir: Path | None = None,
    source: str = "",
) -> Model:
    """The model of a config.json and its tensors (Hugging Face names), in float32 (float64 stays float64).

    Raises CheckpointError for an unknown family, an unsupported variant, and for tensors that are missing, left over,
    misshapen, quantized, NaN or infinite.
    """
    spec = registry.find(str(config.get("model_type")))
    arch = spec.resolve(config)
    named = _split_fused(spec, arch, _transpose(spec, _rename(spec, arch, tensors)))
    for name in named:
        if spec.gain_offset and name.endswith("norm.weight"):
            named[name] = named[name] + spec.gain_offset
    if arch.learned_positions and "positions.weight" in named:
        named["positions.weight"] = named["positions.weight"][spec.position_offset :]
    if arch.tied_head:
        _tie(named)
    _check(spec, arch, named)
    return Model(arch, named, tokenizer_dir, source)


def expected_shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor that a model of this architecture must have (biases are optional)."""
    shapes: dict[str, tuple[int, ...]] = {"embed.weight": (arch.vocab_size, arch.hidden_size)}
    if arch.learned_positions:
        shapes["positions.weight"] = (arch.max_context, arch.hidden_size)
    block = block_shapes(arch)
    for layer in range(arch.num_layers):
        shapes |= {point.at(layer, f"{role}.weight"): shape for role, shape in block.items()}
    shapes["final_norm.weight"] = (arch.hidden_size,)
    shapes["lm_head.weight"] = (arch.vocab_size, arch.hidden_size)
    return shapes


def block_shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """The shapes of one block by role, in the order in which they run."""
    channels, inner = arch.hidden_size, arch.intermediate_size
    queries, keys = arch.num_heads * arch.head_dim, arch.num_kv_heads * arch.head_dim
    norms = ["attn_norm"]
    norms += [] if arch.shared_block_norm else ["mlp_norm"]
    norms += ["attn_post_norm", "mlp_post_norm"] if arch.post_norms else []
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(norms, (channels,))
    shapes |= dict.fromkeys(("q_norm", "k_norm") if arch.qk_norm else (), (arch.head_dim,))
    shapes |= {"q": (queries, channels), "k": (keys, channels), "v": (keys, channels), "o": (channels, queries)}
    shapes |= {"gate": (inner, channels)} if arch.gated_mlp else {}
    return shapes | {"up": (inner, channels), "down": (channels, inner)}


def hf_module(spec: ArchSpec, module: str) -> str:
    """Where the checkpoint holds a canonical module: ``layers.3.q`` → ``model.layers.3.self_attn.q_proj``."""
    role = point.role_of(module)
    if role not in spec.names:
        role = next((fused for fused, parts in FUSED.items() if role in parts and fused in spec.names), role)
    template = spec.names.get(role, module)
    return template.format(i=module.split(".")[1]) if "{i}" in template else template


def _modules(spec: ArchSpec, arch: Architecture) -> Iterator[str]:
    """Canonical modules that the checkpoint may hold; fused ones under their fused role."""
    fused_role = {part: fused for fused, parts in FUSED.items() if fused in spec.names for part in parts}
    for name in expected_shapes(arch):
        module = name.removesuffix(".weight")
        role = point.role_of(module)
        yield module.removesuffix(role) + fused_role.get(role, role)


def _rename(spec: ArchSpec, arch: Architecture, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Canonical name → checked float tensor."""
    canonical = {hf_module(spec, module): module for module in _modules(spec, arch)} | dict(spec.aliases)
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors.values()) else torch.float32
    named: dict[str, Tensor] = {}
    left_over: list[str] = []
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        target = canonical.get(module) or canonical.get(spec.base_prefix + module)
        if target and kind in ("weight", "bias"):
            named[f"{target}.{kind}"] = _as_float(name, tensor, dtype)
        elif not name.endswith((*IGNORED, *spec.ignored)):
            left_over.append(name)
    if left_over:
        raise CheckpointError(f"The {spec.family} checkpoint has unknown tensors: {_some(left_over)}.", WRONG_FILES)
    return named


def _as_float(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.dtype not in FLOATS:
        raise CheckpointError(
            f"Tensor {name} has the type {tensor.dtype}; only float checkpoints can be quantized.",
            "Load the original float checkpoint instead of one that is already quantized.",
        )
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(
            f"Tensor {name} contains NaN or infinite values.",
            "Download the checkpoint again; if it is the same, the model itself is damaged and cannot be quantized.",
        )
    return tensor.to(dtype)


def _transpose(spec: ArchSpec, named: dict[str, Tensor]) -> dict[str, Tensor]:
    """(I, O) → (O, I) for the linears of a block, where the family stores them so."""
    if not spec.transposed:
        return named
    return {name: tensor.T.contiguous() if _is_block_matrix(name, tensor) else tensor for name, tensor in named.items()}


def _is_block_matrix(name: str, tensor: Tensor) -> bool:
    return name.startswith("layers.") and tensor.dim() == 2


def _split_fused(spec: ArchSpec, arch: Architecture, named: dict[str, Tensor]) -> dict[str, Tensor]:
    """One tensor per linear."""
    split: dict[str, Tensor] = {}
    shapes = block_shapes(arch)
    for name, tensor in named.items():
        module, _, kind = name.rpartition(".")
        role = point.role_of(module)
        if role not in FUSED:
            split[name] = tensor
            continue
        rows = [shapes[part][0] for part in FUSED[role]]
        if tensor.shape[0] != sum(rows):
            raise _misshapen(spec, name, tensor, f"{sum(rows)} rows")
        if role == "qkv" and spec.interleaved_qkv:
            tensor = _gather_heads(tensor, arch)
        for part, value in zip(FUSED[role], tensor.split(rows), strict=True):
            split[f"{module.removesuffix(role)}{part}.{kind}"] = value.contiguous()
    return split


def _gather_heads(tensor: Tensor, arch: Architecture) -> Tensor:
    """Rows (H, 3, D) → rows (3, H, D): from q, k, v of each head in turn to all q, all k, all v."""
    heads = tensor.unflatten(0, (arch.num_heads, 3, arch.head_dim))
    return heads.transpose(0, 1).flatten(0, 2)


def _tie(named: dict[str, Tensor]) -> None:
    """Make lm_head the same object as the embedding."""
    embedding = named.get("embed.weight")
    head = named.get("lm_head.weight")
    if embedding is None:
        return
    if head is not None and not torch.equal(head, embedding):
        raise CheckpointError(
            "config.json ties lm_head to the embedding, but the checkpoint holds two different matrices.",
            'If the head is meant to differ, set "tie_word_embeddings": false in config.json.',
        )
    named["lm_head.weight"] = embedding


def _check(spec: ArchSpec, arch: Architecture, named: Mapping[str, Tensor]) -> None:
    """Every tensor present, every shape right, no bias where the walker would not read it."""
    shapes = expected_shapes(arch)
    missing = [f"{hf_module(spec, name.removesuffix('.weight'))}.weight" for name in shapes if name not in named]
    if missing:
        unique = list(dict.fromkeys(missing))
        raise CheckpointError(f"The {spec.family} checkpoint lacks tensors: {_some(unique)}.", WRONG_FILES)
    for name, tensor in named.items():
        expected = shapes[name] if name in shapes else _bias_shape(spec, arch, name, shapes)
        if tuple(tensor.shape) != expected:
            raise _misshapen(spec, name, tensor, str(expected))


def _bias_shape(spec: ArchSpec, arch: Architecture, name: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int]:
    module = name.removesuffix(".bias")
    role = point.role_of(module)
    if role in ("embed", "positions") or (role.endswith("norm") and arch.norm == "rms"):
        raise CheckpointError(f"Unexpected bias {hf_module(spec, module)}.bias.", WRONG_FILES)
    return (shapes[f"{module}.weight"][0],)


def _misshapen(spec: ArchSpec, name: str, tensor: Tensor, expected: str) -> CheckpointError:
    module, _, kind = name.rpartition(".")
    found = tuple(tensor.shape)
    return CheckpointError(
        f"Tensor {hf_module(spec, module)}.{kind} has the shape {found}; config.json asks for {expected}.", WRONG_FILES
    )


def _some(names: Iterable[str], limit: int = 5) -> str:
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
