"""The smoothing scale of one pair: pure arithmetic on magnitudes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# No channel is scaled by more than this away from the pair's geometric mean: beyond it one side only loses.
SCALE_LIMIT = 1e3
_SMALLEST = 1e-12


@dataclass(frozen=True)
class SmoothScale:
    """Free scale (C,) and how many channels were dead: all zero on either side, hence left alone."""

    scale: Tensor
    dead_channels: int


def smooth_scale(divided: Tensor, multiplied: Tensor, alpha: float) -> SmoothScale:
    """s = absmax(X)^α / absmax(W)^(1−α) per channel (SmoothQuant, arXiv 2211.10438, eq. 4), geometric mean 1.

    divided, multiplied: largest magnitudes (C,) of what is divided and of what is multiplied by s. A common factor of
    all channels changes no integer code, so dividing by the geometric mean only keeps the numbers in their magnitude.
    """
    divided, multiplied = divided.double(), multiplied.double()
    alive = (divided > _SMALLEST) & (multiplied > _SMALLEST)
    exponent = alpha * divided.clamp_min(_SMALLEST).log() - (1 - alpha) * multiplied.clamp_min(_SMALLEST).log()
    centre = exponent[alive].mean() if bool(alive.any()) else exponent.new_zeros(())
    scale = (exponent - centre).exp().clamp(1 / SCALE_LIMIT, SCALE_LIMIT)
    return SmoothScale(torch.where(alive, scale, torch.ones_like(scale)), int((~alive).sum()))
