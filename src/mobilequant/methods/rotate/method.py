"""Random rotations that weights absorb: the part of QuaRot (arXiv 2404.00456) that adds no operation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mobilequant.arch.architecture import Architecture
from mobilequant.errors import UsageError
from mobilequant.pipeline.method import FrozenConfig, Inputs, Need, Result, Rewrite, Unit, UnitKind
from mobilequant.pipeline.scheme import Scheme
from mobilequant.transforms.hadamard import random_hadamard
from mobilequant.transforms.orthogonal import random_orthogonal
from mobilequant.transforms.rotation import why_not_rotatable

Kind = Literal["hadamard", "orthogonal", "none"]
_RANDOM: Mapping[str, Callable[[int, torch.Generator], Tensor]] = {
    "hadamard": random_hadamard,
    "orthogonal": random_orthogonal,
}

_log = logging.getLogger(__name__)


class RotateConfig(FrozenConfig):
    """Which matrices turn what."""

    residual: Kind = Field("hadamard", description="R1, one matrix for the residual stream of all layers.")
    heads: Kind = Field("hadamard", description="R2, a matrix per key/value head between v and o.")


class Rotate:
    """No statistics: random matrices for the whole model at once. Must stand in front of what scales channels."""

    name: ClassVar[str] = "rotate"
    unit: ClassVar[UnitKind] = "model"
    inputs: ClassVar[Inputs] = "float"
    changes: ClassVar[frozenset[str]] = frozenset(
        {"embed", "attn_residual", "mlp_residual", "o", "down", "attn_norm", "mlp_norm", "final_norm", "v", "context"}
    )
    rounds: ClassVar[bool] = False
    Config: ClassVar[type[FrozenConfig]] = RotateConfig

    def __init__(self, config: RotateConfig) -> None:
        self.config = config

    def needs(self, arch: Architecture, scheme: Scheme) -> Sequence[Need]:
        """Nothing."""
        return []

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """The rotations of the model, to be carried out.

        Raises:
            UsageError: a method before this one gave the channels of the residual units of their own.
        """
        arch = unit.arch
        rotates_residual = self.rotates_residual(arch)
        if self.config.residual != "none" and not rotates_residual:
            _log.warning("the residual is not rotated: %s", why_not_rotatable(unit.tensors, arch))
        rewrites = self._rotated_residual(unit, rng) if rotates_residual else []
        for layer in range(arch.num_layers) if self.config.heads != "none" else ():
            matrices = [_RANDOM[self.config.heads](arch.head_dim, rng) for _ in range(arch.num_kv_heads)]
            rewrites.append(Rewrite("rotate_values", f"layers.{layer}", torch.stack(matrices)))
        measures = {"residual_rotated": float(rotates_residual), "heads_rotated": float(self.config.heads != "none")}
        return Result(rewrites=tuple(rewrites), measures=measures, norm="rms" if rotates_residual else None)

    def rotates_residual(self, arch: Architecture) -> bool:
        """Whether the residual of this model is rotated, and so its head untied."""
        return self.config.residual != "none" and not arch.post_norms

    def _rotated_residual(self, unit: Unit, rng: torch.Generator) -> list[Rewrite]:
        """R1 with what must stand in front of it: no gains, RMSNorms only."""
        reason = why_not_rotatable(unit.tensors, unit.arch)
        if reason:
            raise UsageError(f"method {self.name!r}: {reason}", f"Put {self.name!r} before ptf and smoothquant.")
        norms = [Rewrite("to_rms_norm")] if unit.arch.norm == "layer" else []
        rotation = _RANDOM[self.config.residual](unit.arch.hidden_size, rng)
        return [Rewrite("fold_gains"), *norms, Rewrite("rotate_residual", factor=rotation)]
