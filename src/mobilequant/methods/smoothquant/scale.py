"""The smoothing scale of one pair: pure arithmetic on magnitudes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

# No channel is scaled by more than this away from the pair's geometric mean: beyond it one side only loses.
SCALE_LIMIT = 1e3
_SMALLEST = 1e-12
_OCTAVES = 5  # to either side, for powers of two


@dataclass(frozen=True)
class SmoothScale:
    """Free scale (C,) and how many channels were dead: all zero on either side, hence left alone."""

    scale: Tensor
    dead_channels: int


def smooth_scale(divided: Tensor, multiplied: Tensor, alpha: float, beta: float | None = None) -> SmoothScale:
    """s = absmax(X)^α / absmax(W)^β per channel, geometric mean 1; β is 1 − α (SmoothQuant, arXiv 2211.10438, eq. 4).

    divided, multiplied: largest magnitudes (C,) of what is divided and of what is multiplied by s. A common factor of
    all channels changes no integer code, so dividing by the geometric mean only keeps the numbers in their magnitude.
    """
    beta = 1 - alpha if beta is None else beta
    divided, multiplied = divided.double(), multiplied.double()
    alive = (divided > _SMALLEST) & (multiplied > _SMALLEST)
    exponent = alpha * divided.clamp_min(_SMALLEST).log() - beta * multiplied.clamp_min(_SMALLEST).log()
    centre = exponent[alive].mean() if bool(alive.any()) else exponent.new_zeros(())
    scale = (exponent - centre).exp().clamp(1 / SCALE_LIMIT, SCALE_LIMIT)
    return SmoothScale(torch.where(alive, scale, torch.ones_like(scale)), int((~alive).sum()))


def in_powers_of_two(found: SmoothScale, divided: Tensor, multiplied: Tensor) -> SmoothScale:
    """Powers of two in place of a scale, the smallest of them one, within 2^±5 of the geometric mean.

    All exponents are rounded down after a common offset is added; of sixteen offsets the one is taken that leaves the
    smallest product of both ranges, max(X / s) · max(W · s): the channels that set a range should not be rounded badly.
    """
    offsets = torch.arange(16, dtype=torch.float64, device=found.scale.device)[:, None] / 16
    exponents = (found.scale.double().log2() + offsets).floor().clamp(-_OCTAVES, _OCTAVES)
    candidates = torch.exp2(exponents - exponents.amin(dim=1, keepdim=True))
    ranges = (divided.double() / candidates).amax(dim=1) * (multiplied.double() * candidates).amax(dim=1)
    return replace(found, scale=candidates[int(ranges.argmin())])
