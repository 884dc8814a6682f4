"""Tₖ (FPTQuant, arXiv 2506.04985): a rotation of queries and keys that RoPE lets through, chosen from data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.methods.rotate_keys.angle import best_angles
from mobilequant.pipeline.method import FrozenConfig, Inputs, Need, Result, Rewrite, Unit, UnitKind
from mobilequant.pipeline.scheme import Scheme
from mobilequant.transforms.rotation import why_not_key_rotatable

_log = logging.getLogger(__name__)


class RotateKeysConfig(FrozenConfig):
    """Nothing to choose."""


class RotateKeys:
    """One pass for how far the planes of queries and keys reach, then an angle for each plane of a key/value head."""

    name: ClassVar[str] = "rotate_keys"
    unit: ClassVar[UnitKind] = "block"
    inputs: ClassVar[Inputs] = "float"
    changes: ClassVar[frozenset[str]] = frozenset({"q", "k", "q_rope", "k_rope"})
    rounds: ClassVar[bool] = False
    Config: ClassVar[type[FrozenConfig]] = RotateKeysConfig

    def __init__(self, config: RotateKeysConfig) -> None:
        self.config = config

    def needs(self, arch: Architecture, scheme: Scheme) -> Sequence[Need]:
        """The reach of queries and keys, as they are rounded in front of RoPE and behind it."""
        layers = [layer for layer in range(arch.num_layers) if not why_not_key_rotatable(arch, layer)]
        return [need for layer in layers for need in _needs(arch, layer)]

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """The angles of one block, to be carried out; final norm and lm_head have no keys."""
        if unit.name == "head":
            return _told(unit.arch)
        arch, layer = unit.arch, point.layer_of(unit.name)
        if why_not_key_rotatable(arch, layer):
            return Result(measures={"planes_turned": 0.0})
        found = best_angles([_by_group(stats[need], arch) for need in _needs(arch, layer)])
        return Result(
            rewrites=(Rewrite("rotate_keys", unit.name, found.angle),),
            measures={
                "planes_turned": float((found.angle != 0).sum()),
                "largest_gain": found.gain.max().item(),
            },
        )


def _told(arch: Architecture) -> Result:
    """Nothing; but once in a run it is said what could not be done."""
    reasons = [why_not_key_rotatable(arch, layer) for layer in range(arch.num_layers)]
    left = [reason for reason in reasons if reason]
    if left:
        _log.warning("queries and keys of %d of %d layers are not rotated: %s", len(left), len(reasons), left[0])
    return Result()


def _needs(arch: Architecture, layer: int) -> list[Need]:
    points = (point.at(layer, "q"), point.at(layer, "k"), point.query_point(arch, layer), point.key_point(arch, layer))
    return [Need("plane_reach", name) for name in points]


def _by_group(reach: Tensor, arch: Architecture) -> Tensor:
    """The largest over the heads (H or G, …) that share a key/value head: (G, …)."""
    return reach.unflatten(0, (arch.num_kv_heads, -1)).amax(dim=1)
