"""The two extremes of an activation: all that a point needs which must never be clipped."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Extremes:
    """Smallest and largest value seen."""

    low: float
    high: float


class MinMaxCollector:
    """Running extremes."""

    def __init__(self) -> None:
        self._low, self._high = math.inf, -math.inf

    def see(self, value: Tensor) -> None:
        """Widen by the extremes of a batch."""
        low, high = value.aminmax()
        self._low, self._high = min(self._low, low.item()), max(self._high, high.item())

    def see_constant(self, value: Tensor) -> None:
        """Constant entries count like any other."""
        self.see(value)

    def merge(self, other: MinMaxCollector) -> None:
        """Widen by the extremes of the other."""
        self._low, self._high = min(self._low, other._low), max(self._high, other._high)

    def result(self) -> Extremes:
        """The extremes so far."""
        return Extremes(self._low, self._high)
