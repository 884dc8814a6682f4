"""Which units a method is applied to, in which order, and with which random numbers."""

from __future__ import annotations

import hashlib

import torch

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.pipeline.method import UnitKind

HEAD, MODEL = point.HEAD, "model"


def entry_units(kind: UnitKind, arch: Architecture) -> list[str]:
    """Units in front of the first block."""
    return point.tables(arch) if kind == "linear" else []


def block_units(kind: UnitKind, arch: Architecture, layer: int) -> list[str]:
    """Units of one block."""
    if kind == "linear":
        return [point.at(layer, role) for role in point.linear_roles(arch)]
    return [f"layers.{layer}"] if kind == "block" else []


def head_units(kind: UnitKind, arch: Architecture) -> list[str]:
    """Units behind the last block. A tied lm_head is no unit of its own: it gets what "embed" gets."""
    if kind == "linear":
        return [] if arch.tied_head else [point.LM_HEAD]
    return [HEAD] if kind == "block" else [MODEL]


def all_units(kind: UnitKind, arch: Architecture) -> list[str]:
    """Every unit in running order."""
    blocks = [name for layer in range(arch.num_layers) for name in block_units(kind, arch, layer)]
    return [*entry_units(kind, arch), *blocks, *head_units(kind, arch)]


def unit_generator(seed: int, unit: str) -> torch.Generator:
    """Random numbers that depend on the seed and the unit's name alone, never on order or resume."""
    digest = hashlib.sha256(f"{seed}:{unit}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
