"""Power-of-Two Factor (FQ-ViT, arXiv 2111.13824) on what norms read: a step of its own for a massive channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.numerics.exponent import largest_exponent
from mobilequant.pipeline.method import FrozenConfig, Inputs, Need, Result, Rewrite, Unit, UnitKind
from mobilequant.pipeline.scheme import Scheme

HEADS: tuple[Literal["q"], Literal["k"]] = ("q", "k")


class PtfConfig(FrozenConfig):
    """Nothing to choose."""


class Ptf:
    """One pass of per-channel magnitudes, then exponents: for the residual stream, one per channel for all layers; in
    front of head norms, one per dimension for all heads of a layer."""

    name: ClassVar[str] = "ptf"
    unit: ClassVar[UnitKind] = "model"
    inputs: ClassVar[Inputs] = "float"
    changes: ClassVar[frozenset[str]] = frozenset(
        {"embed", "attn_residual", "mlp_residual", "o", "down", "attn_post_norm", "mlp_post_norm", "q", "k"}
    )
    rounds: ClassVar[bool] = False
    Config: ClassVar[type[FrozenConfig]] = PtfConfig

    def __init__(self, config: PtfConfig) -> None:
        self.config = config

    def needs(self, arch: Architecture, scheme: Scheme) -> Sequence[Need]:
        """Per-channel magnitudes of the residual stream, everywhere, and of what head norms read."""
        heads = [point.at(layer, role) for layer in range(arch.num_layers) for role in HEADS] if arch.qk_norm else []
        return [Need("absmax", name) for name in (*point.residual_points(arch), *heads)]

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """The scales of all writers, which the norms undo."""
        arch = unit.arch
        residual = torch.stack([stats[Need("absmax", name)] for name in point.residual_points(arch)]).amax(dim=0)
        exponents = channel_exponents(residual, largest_exponent(arch.hidden_size))
        rewrites = [Rewrite("scale_residual", factor=torch.exp2(exponents))] if exponents.any() else []
        for layer in range(arch.num_layers) if arch.qk_norm else ():
            for role in HEADS:
                heads = stats[Need("absmax", point.at(layer, role))].view(-1, arch.head_dim).amax(dim=0)
                scale = torch.exp2(channel_exponents(heads, largest_exponent(arch.head_dim)))
                rewrites.append(Rewrite("scale_head_norm_input", point.at(layer, role), scale))
        shifted, largest = exponents.count_nonzero().item(), exponents.max().item()
        measures = {"shifted_channels": shifted, "largest_exponent": largest}
        return Result(rewrites=tuple(rewrites), measures=measures)


def channel_exponents(magnitudes: Tensor, largest: int) -> Tensor:
    """Exponents (C,) in 0 … ``largest`` by which 2^−e brings magnitudes (C,) nearest to one another from above.

    After it no channel exceeds 2^−largest of what the widest had, so the common step is as fine as ``largest`` allows;
    and a channel's own step is at most twice what its magnitude would ask for.
    """
    floor = magnitudes.double().max().clamp_min(1e-30) * 2.0**-largest
    exponents = torch.log2(magnitudes.double() / floor).ceil().clamp(0, largest)
    return exponents - exponents.min()
