"""Power-of-Two Factor (FQ-ViT, arXiv 2111.13824) on the residual stream: a step of its own for a massive channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.numerics.exponent import largest_exponent
from mobilequant.pipeline.method import FrozenConfig, Need, Result, Unit, UnitKind
from mobilequant.pipeline.scheme import Scheme
from mobilequant.transforms.residual import scale_residual


class PtfConfig(FrozenConfig):
    """Nothing to choose."""


class Ptf:
    """One pass of per-channel magnitudes, then one exponent per channel of the residual stream, for all layers."""

    name: ClassVar[str] = "ptf"
    unit: ClassVar[UnitKind] = "model"
    inputs: ClassVar[Literal["float", "quantized"]] = "float"
    changes: ClassVar[frozenset[str]] = frozenset(
        {"embed", "attn_residual", "mlp_residual", "o", "down", "attn_post_norm", "mlp_post_norm"}
    )
    Config: ClassVar[type[FrozenConfig]] = PtfConfig

    def __init__(self, config: PtfConfig) -> None:
        self.config = config

    def needs(self, arch: Architecture, scheme: Scheme) -> Sequence[Need]:
        """Per-channel magnitudes of the residual stream, everywhere."""
        return [Need("absmax", name) for name in point.residual_points(arch)]

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """The scaled writers of the residual, and the scale that its readers undo."""
        magnitudes = torch.stack([stats[need] for need in self.needs(unit.arch, scheme)]).amax(dim=0)
        exponents = channel_exponents(magnitudes, largest_exponent(unit.arch.hidden_size))
        shifted, largest = int(exponents.count_nonzero()), exponents.max().item()
        tensors = scale_residual(unit.tensors, unit.arch, torch.exp2(exponents)) if shifted else {}
        return Result(tensors=tensors, measures={"shifted_channels": shifted, "largest_exponent": largest})


def channel_exponents(magnitudes: Tensor, largest: int) -> Tensor:
    """Exponents (C,) in 0 … ``largest`` by which 2^−e brings magnitudes (C,) nearest to one another from above.

    After it no channel exceeds 2^−largest of what the widest had, so the common step is as fine as ``largest`` allows;
    and a channel's own step is at most twice what its magnitude would ask for.
    """
    floor = magnitudes.double().max().clamp_min(1e-30) * 2.0**-largest
    exponents = torch.log2(magnitudes.double() / floor).ceil().clamp(0, largest)
    return exponents - exponents.min()
