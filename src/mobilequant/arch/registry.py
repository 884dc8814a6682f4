"""The families that MobileQuant knows, and how a checkpoint finds its own."""

from __future__ import annotations

import difflib

from mobilequant.arch.families import (
    gemma,
    gemma2,
    gemma3,
    gpt2,
    gpt_neox,
    llama,
    mistral,
    opt,
    phi3,
    qwen2,
    qwen3,
    stablelm,
)
from mobilequant.arch.spec import ArchSpec
from mobilequant.errors import CheckpointError

SPECS: tuple[ArchSpec, ...] = tuple(
    family.SPEC for family in (llama, mistral, qwen2, qwen3, gemma, gemma2, gemma3, stablelm, phi3, opt, gpt2, gpt_neox)
)


def model_types() -> tuple[str, ...]:
    """Every "model_type" of config.json that can be loaded."""
    return tuple(name for spec in SPECS for name in spec.model_types)


def find(model_type: str) -> ArchSpec:
    """The family of a checkpoint; CheckpointError names the nearest families when there is none."""
    for spec in SPECS:
        if model_type in spec.model_types:
            return spec
    near = difflib.get_close_matches(str(model_type), model_types(), n=3, cutoff=0.4) or model_types()
    raise CheckpointError(
        f"No family is known for model_type {model_type!r}; the nearest are {', '.join(near)}.",
        "Choose a model of a known family, or describe the new one as docs/guide/add-a-family.md shows.",
    )
