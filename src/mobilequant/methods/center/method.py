"""Value centering: what attention averages has mean zero, so that probabilities lost to rounding cost less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.pipeline.method import FrozenConfig, Inputs, Need, Result, Unit, UnitKind
from mobilequant.pipeline.scheme import Scheme
from mobilequant.transforms.center import center_values


class CenterConfig(FrozenConfig):
    """Nothing to choose."""


class Center:
    """One pass for the mean of every value channel; see ``transforms.center`` for why nothing else changes."""

    name: ClassVar[str] = "center"
    unit: ClassVar[UnitKind] = "block"
    inputs: ClassVar[Inputs] = "float"
    changes: ClassVar[frozenset[str]] = frozenset({"v", "context"})
    rounds: ClassVar[bool] = False
    Config: ClassVar[type[FrozenConfig]] = CenterConfig

    def __init__(self, config: CenterConfig) -> None:
        self.config = config

    def needs(self, arch: Architecture, scheme: Scheme) -> Sequence[Need]:
        """The mean of the values of every layer."""
        return [Need("mean", point.at(layer, "v")) for layer in range(arch.num_layers)]

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """New biases of v and o of one block; final norm and lm_head have nothing to center."""
        if unit.name == "head":
            return Result()
        layer = point.layer_of(unit.name)
        mean = stats[Need("mean", point.at(layer, "v"))]
        return Result(
            tensors=center_values(unit.tensors, unit.arch, layer, mean),
            measures={"mean_norm": mean.norm().item()},
        )
