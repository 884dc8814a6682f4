"""Expected error of a quantizer on a histogram, integrated exactly over every cell.

With u = x / scale and n(u) the nearest allowed code, the error |u − n(u)|^p has the antiderivative

    A(u) = n·c + sign(r)·|r|^(p+1) / (p+1),     r = u − n(u),     c = 2^(−p) / (p+1)

inside the range as well as beyond its ends, where n(u) stays at the last code and r grows. A cell [a, b] whose values
are spread evenly then costs scale^p · (A(b) − A(a)) / (b − a) per value: rounding and clipping in one formula.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mobilequant.numerics.qtype import QType

_SMALLEST_SCALE = 1e-12


@dataclass(frozen=True)
class Grid:
    """K candidate quantizers: representable values are ``scale · n`` for whole n in [first, last]; all (K, 1)."""

    scale: Tensor
    first: Tensor
    last: Tensor

    @classmethod
    def over(cls, lows: Tensor, highs: Tensor, qtype: QType, symmetric: bool) -> Grid:
        """The grids that ``numerics.qparams`` makes of K ranges (K,)."""
        if symmetric:
            zero_point = torch.full_like(highs, 128.0 if qtype.qmin == 0 else 0.0)
            scale = (highs / (qtype.qmax - zero_point)).clamp_min(_SMALLEST_SCALE)
        else:
            scale = ((highs - lows) / (qtype.qmax - qtype.qmin)).clamp_min(_SMALLEST_SCALE)
            zero_point = torch.round(qtype.qmin - lows / scale).clamp(qtype.qmin, qtype.qmax)
        return cls(scale[:, None], (qtype.qmin - zero_point)[:, None], (qtype.qmax - zero_point)[:, None])


def mean_errors(edges: Tensor, counts: Tensor, grid: Grid, p: float) -> Tensor:
    """Mean |x − quantized(x)|^p (K,) of a histogram with edges (n + 1,) and counts (n,), float64."""
    scaled = edges / grid.scale
    codes = torch.floor(scaled + 0.5).clamp(grid.first, grid.last)
    rest = scaled - codes
    antiderivative = codes * (2.0**-p / (p + 1)) + rest.sign() * rest.abs().pow(p + 1) / (p + 1)
    width = scaled.diff(dim=1)
    spread = antiderivative.diff(dim=1) / width.clamp_min(1e-300)
    # A cell cut to no width (all its values are one extreme) costs the error of that value.
    point_cost = rest[:, 1:].abs().pow(p)
    costs = torch.where(width > 0, spread, point_cost)
    return (costs * counts).sum(dim=1) / counts.sum() * grid.scale[:, 0].pow(p)
