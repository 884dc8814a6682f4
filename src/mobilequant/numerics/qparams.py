"""Static per-tensor parameters of an activation: real value = scale · (code − zero_point)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mobilequant.numerics.qtype import INT16, UINT8, QType


@dataclass(frozen=True)
class QParams:
    """Affine parameters of one tensor. ``scale`` > 0 is a real number; ``zero_point`` is the code of 0.0."""

    scale: float
    zero_point: int
    qtype: QType

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale must be a positive number, got {self.scale}")
        if not self.qtype.qmin <= self.zero_point <= self.qtype.qmax:
            raise ValueError(f"zero_point {self.zero_point} is outside {self.qtype.name}")


# A tensor that was 0.0 everywhere still needs a step; its codes are all the zero point.
_SMALLEST_RANGE = 1e-8


def asymmetric(low: float, high: float, qtype: QType = UINT8) -> QParams:
    """Parameters that cover [low, high] and represent 0.0 exactly (the range is widened to contain it)."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, _SMALLEST_RANGE) / (qtype.qmax - qtype.qmin)
    zero_point = round(qtype.qmin - low / scale)
    return QParams(scale, min(max(zero_point, qtype.qmin), qtype.qmax), qtype)


def symmetric(bound: float, qtype: QType = INT16) -> QParams:
    """Parameters that cover [−bound, bound] with the zero point in the middle (128 for uint8, 0 for signed)."""
    zero_point = 128 if qtype.qmin == 0 else 0
    return QParams(max(abs(bound), _SMALLEST_RANGE) / (qtype.qmax - zero_point), zero_point, qtype)
