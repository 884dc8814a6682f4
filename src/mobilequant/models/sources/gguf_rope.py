"""Rope scaling out of a GGUF file: some kinds stand in its metadata, others only in tables among its tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mobilequant.errors import CheckpointError

LLAMA3_TABLE = "rope_freqs.weight"
LONG_TABLE, SHORT_TABLE = "rope_factors_long.weight", "rope_factors_short.weight"
TABLES = (LLAMA3_TABLE, LONG_TABLE, SHORT_TABLE)
# Every Llama 3.x has these three; only the factor (8 or 32) differs, and the file does not say either.
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def rope_scaling(
    prefix: str, metadata: Mapping[str, Any], tables: Mapping[str, list[float]], config: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The "rope_scaling" of config.json, or None. Raises CheckpointError when a table cannot be explained."""
    if LLAMA3_TABLE in tables:
        return _llama3(tables[LLAMA3_TABLE], float(config.get("rope_theta", 10_000.0)))
    if LONG_TABLE in tables and SHORT_TABLE in tables:
        scaling = {"rope_type": "longrope", "long_factor": tables[LONG_TABLE], "short_factor": tables[SHORT_TABLE]}
        attention_factor = metadata.get(f"{prefix}.rope.scaling.attn_factor")
        return {**scaling, "attention_factor": attention_factor} if attention_factor else scaling
    kind = metadata.get(f"{prefix}.rope.scaling.type", "none")
    if kind == "none":
        return None
    context = metadata.get(f"{prefix}.rope.scaling.original_context_length")
    scaling = {"rope_type": str(kind), "factor": metadata.get(f"{prefix}.rope.scaling.factor", 1.0)}
    return {**scaling, "original_max_position_embeddings": context} if context else scaling


def _llama3(factors: list[float], theta: float) -> dict[str, Any]:
    """The settings behind a table of frequency divisors, accepted only if they give this very table."""
    factor = max(factors)
    plausible = all(1 <= value < math.inf for value in factors)
    expected = llama3_divisors(theta, 2 * len(factors), factor) if plausible else [math.nan] * len(factors)
    if not all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(factors, expected, strict=True)):
        raise CheckpointError(
            f"The table {LLAMA3_TABLE} of this GGUF file is not that of Llama 3.",
            "Use the model's Hugging Face folder, whose config.json states the rope scaling.",
        )
    return {"rope_type": "llama3", "factor": factor, **LLAMA3}


def llama3_divisors(theta: float, rotary_dim: int, factor: float) -> list[float]:
    """What Llama 3 divides each rotary frequency by: 1 for fast waves, ``factor`` for slow ones, a blend between."""
    low, high = LLAMA3["low_freq_factor"], LLAMA3["high_freq_factor"]
    divisors = []
    for index in range(rotary_dim // 2):
        turns = LLAMA3["original_max_position_embeddings"] * theta ** (-2 * index / rotary_dim) / (2 * math.pi)
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        divisors.append(1 / (kept + (1 - kept) / factor))
    return divisors
