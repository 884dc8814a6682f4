"""GGUF tensors as a Hugging Face checkpoint has them: dequantized, under its names, in its layout."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from torch import Tensor

from mobilequant.arch.spec import ArchSpec
from mobilequant.errors import CheckpointError
from mobilequant.models.sources.gguf_header import GGUFHeader, GGUFTensor
from mobilequant.models.sources.gguf_rope import TABLES

# GGUF module → role of ``arch.point``
MODEL_ROLES = {"token_embd": "embed", "output_norm": "final_norm", "output": "lm_head"}
BLOCK_ROLES = {
    "attn_norm": "attn_norm",
    "attn_q": "q",
    "attn_k": "k",
    "attn_v": "v",
    "attn_qkv": "qkv",
    "attn_output": "o",
    "attn_q_norm": "q_norm",
    "attn_k_norm": "k_norm",
    "post_attention_norm": "attn_post_norm",
    "ffn_norm": "mlp_norm",
    "ffn_gate": "gate",
    "ffn_up": "up",
    "ffn_down": "down",
    "post_ffw_norm": "mlp_post_norm",
}
NORM_ROLES = {"final_norm", *(role for role in BLOCK_ROLES.values() if role.endswith("norm"))}
BLOCK = re.compile(r"blk\.(?P<layer>\d{1,5})\.(?P<part>\w+)", re.ASCII)
CHUNK_ELEMENTS = 1 << 22
# Types that are kept as they are; everything else is dequantized to float16.
EXACT = {
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
    GGMLQuantizationType.F32: torch.float32,
}
LARGEST_LOSS = 2.0**-11  # relative; more than rounding to 11 bits can cost means overflow or underflow


def side_tables(path: Path, header: GGUFHeader) -> dict[str, list[float]]:
    """The rope tables of a file, which belong into config.json."""
    content = np.memmap(path, mode="r")
    return {
        name: dequantize(content, header.tensors[name]).flatten().tolist() for name in TABLES if name in header.tensors
    }


def hf_tensors(
    path: Path, header: GGUFHeader, spec: ArchSpec, interleaved_heads: Mapping[str, int]
) -> Iterator[tuple[str, Tensor]]:
    """Each weight of a file under its Hugging Face name.

    ``interleaved_heads``: role → number of heads, for the roles whose rows lie in rotary pairs. GGUF gains of Gemma
    already contain the 1 that the checkpoint leaves out. Raises CheckpointError for tensors the family does not have.
    """
    content = np.memmap(path, mode="r")
    for tensor in header.tensors.values():
        if tensor.name in TABLES:
            continue
        role, name = _hf_name(spec, tensor.name)
        value = dequantize(content, tensor)
        if role in interleaved_heads:
            value = _unpaired(tensor, value, interleaved_heads[role])
        yield name, value - spec.gain_offset if role in NORM_ROLES and spec.gain_offset else value


def _hf_name(spec: ArchSpec, name: str) -> tuple[str, str]:
    """(role, Hugging Face name): ``blk.3.attn_q.weight`` → ``q``, ``model.layers.3.self_attn.q_proj.weight``."""
    module, _, kind = name.rpartition(".")
    block = BLOCK.fullmatch(module)
    role = BLOCK_ROLES.get(block["part"], "") if block else MODEL_ROLES.get(module, "")
    if role == "up" and "up" not in spec.names:
        role = "gate_up"  # files of such families keep both halves under the name of one
    if role not in spec.names or kind not in ("weight", "bias"):
        raise CheckpointError(
            f"The GGUF tensor {name!r} is unknown to the family {spec.family}.",
            "Mixtures of experts and adapters are not supported; otherwise the file may be damaged.",
        )
    return role, f"{spec.names[role].format(i=block['layer'] if block else '')}.{kind}"


def dequantize(content: np.ndarray[Any, Any], tensor: GGUFTensor) -> Tensor:
    """The values of a tensor; float types as they are, others as float16 (float32 where float16 would lose more)."""
    if tensor.qtype in EXACT:
        return _dequantized(content, tensor, EXACT[tensor.qtype])[0]
    half, loss = _dequantized(content, tensor, torch.float16)
    return half if loss <= LARGEST_LOSS else _dequantized(content, tensor, torch.float32)[0]


def _dequantized(content: np.ndarray[Any, Any], tensor: GGUFTensor, dtype: torch.dtype) -> tuple[Tensor, float]:
    """The values, and what storing them as ``dtype`` loses. Chunk by chunk, so that memory stays bounded."""
    num_rows = math.prod(tensor.shape[:-1])
    rows = content[tensor.start : tensor.start + tensor.num_bytes].reshape(num_rows, -1)
    step = max(1, CHUNK_ELEMENTS // tensor.shape[-1])
    value = torch.empty((num_rows, tensor.shape[-1]), dtype=dtype)
    losses = [0.0]
    for start in range(0, num_rows, step):
        exact = _decode(rows[start : start + step], tensor)
        value[start : start + step] = exact
        losses.append(_loss(value[start : start + step], exact))
    return value.reshape(tensor.shape), max(losses)


def _decode(rows: np.ndarray[Any, Any], tensor: GGUFTensor) -> Tensor:
    try:
        return torch.from_numpy(np.array(gguf.dequantize(np.ascontiguousarray(rows), tensor.qtype)))
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"The GGUF tensor {tensor.name!r} is packed as {tensor.qtype.name}, which cannot be read: {error}",
            "Use a file in a common type such as Q8_0, Q4_K or F16.",
        ) from error


def _loss(rounded: Tensor, exact: Tensor) -> float:
    return float((rounded.float() - exact).norm() / exact.norm().clamp_min(1e-30))


def _unpaired(tensor: GGUFTensor, value: Tensor, num_heads: int) -> Tensor:
    """Rows (H, D/2, 2) → rows (H, 2, D/2): rotary pair i from rows 2i, 2i+1 to rows i, i + D/2 of its head."""
    if value.shape[0] % (2 * num_heads):
        raise CheckpointError(
            f"The GGUF tensor {tensor.name!r} has {value.shape[0]} rows, which {num_heads} heads cannot share.",
            "The metadata and the weights of this file do not belong together; download it again.",
        )
    return value.unflatten(0, (num_heads, -1, 2)).transpose(1, 2).flatten(0, 2)
