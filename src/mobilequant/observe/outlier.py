"""Outlier tokens: single tokens whose down_proj input or residual is hundreds of times larger than everybody else's.

A static per-tensor range must cover them, which leaves the other tokens a handful of codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.pipeline.method import Need

# PrefixQuant (arXiv 2410.05265), section 4.1: an outlier token exceeds 64 times the median over tokens.
OUTLIER_RATIO = 64.0


@dataclass(frozen=True)
class TokenOutlier:
    """One point: the median over tokens of each token's largest magnitude, and the largest of all."""

    point: str
    median: float
    largest: float
    positions: tuple[tuple[int, int], ...]  # (window, position) of every outlier token

    @property
    def ratio(self) -> float:
        """Largest over median: 1…10 is harmless, above 64 an outlier token is there."""
        return self.largest / max(self.median, 1e-12)


def token_needs(arch: Architecture) -> list[Need]:
    """The statistics that ``token_outliers`` reads."""
    roles = (point.down_input(arch), "mlp_residual")
    return [Need("token_absmax", point.at(layer, role)) for layer in range(arch.num_layers) for role in roles]


def token_outliers(stats: Mapping[Need, Any], arch: Architecture) -> list[TokenOutlier]:
    """Outlier tokens of every down_proj input and of the residual behind it, in layer order."""
    return [_find(need.point, stats[need]) for need in token_needs(arch)]


def _find(name: str, magnitudes: Tensor) -> TokenOutlier:
    """Outliers among the magnitudes (N, T) of one point."""
    median = magnitudes.median().item()
    found = torch.nonzero(magnitudes > OUTLIER_RATIO * median).tolist()
    return TokenOutlier(
        point=name,
        median=median,
        largest=magnitudes.max().item(),
        positions=tuple((window, position) for window, position in found),
    )
