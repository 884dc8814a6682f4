"""The angle at which a plane of queries and keys reaches least far: pure arithmetic on reaches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_WORTH = 1e-3  # nepers of the product of reaches; below it a plane stays as it is


@dataclass(frozen=True)
class Angles:
    """Angle (G, P) in radians of every plane, and by what factor each makes the product of reaches smaller."""

    angle: Tensor
    gain: Tensor


def best_angles(points: Sequence[Tensor]) -> Angles:
    """Of the angles 0 … π/2 in steps of the statistic, those with the least product of the reaches at all points.

    points: for each activation that turns, the reach (G, P, directions over half a turn) of its planes.

    A turn by θ makes of the plane (a, b) the dimensions a·cos θ − b·sin θ and a·sin θ + b·cos θ: what had reached
    along −θ and along π/2 − θ. A common scale of the plane, which multiplies queries and divides keys, leaves the
    product as it is: so the angle is best for all scales, and the scale can be chosen behind it.
    """
    quarter = points[0].shape[-1] // 2
    products = sum((_turned_reach(reach.double()).clamp_min(1e-30).log() for reach in points), torch.zeros(()))
    best = products.argmin(dim=-1)
    gain = products[..., 0] - products.amin(dim=-1)
    worth = gain > _WORTH
    angle = torch.where(worth, best * (0.5 * math.pi / quarter), 0.0)
    return Angles(angle, torch.where(worth, gain, 0.0).exp())


def _turned_reach(reach: Tensor) -> Tensor:
    """Largest magnitude in either dimension (G, P, angles) of planes turned by 0 … π/2."""
    directions = reach.shape[-1]
    quarter = directions // 2
    angles = torch.arange(quarter, device=reach.device)
    return torch.maximum(reach[..., -angles % directions], reach[..., (quarter - angles) % directions])
