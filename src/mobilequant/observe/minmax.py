"""The two extremes of an activation: all that a point needs which must never be clipped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Extremes:
    """Smallest and largest value seen."""

    low: float
    high: float


class RunningExtremes:
    """Extremes of all that was seen so far. They stay where the values are: to ask a GPU for a number at every point of
    every window would be most of a pass."""

    def __init__(self) -> None:
        self._reach: Tensor | None = None  # (2,): −low, high

    def widen(self, value: Tensor) -> None:
        """By the extremes of a batch."""
        low, high = value.aminmax()
        self._extend(torch.stack((-low, high)))

    def merge(self, other: RunningExtremes) -> None:
        """By those of another, which may have seen nothing."""
        if other._reach is not None:
            self._extend(other._reach)

    def ends(self) -> tuple[float, float]:
        """Smallest and largest value; +∞ and −∞ as long as nothing was seen."""
        if self._reach is None:
            return math.inf, -math.inf
        low, high = self._reach.tolist()
        return -low, high

    def _extend(self, reach: Tensor) -> None:
        self._reach = reach if self._reach is None else torch.maximum(self._reach, reach)


class MinMaxCollector:
    """Running extremes."""

    def __init__(self) -> None:
        self._extremes = RunningExtremes()

    def see(self, value: Tensor) -> None:
        """Widen by the extremes of a batch."""
        self._extremes.widen(value)

    def see_constant(self, value: Tensor) -> None:
        """Constant entries count like any other."""
        self.see(value)

    def merge(self, other: MinMaxCollector) -> None:
        """Widen by the extremes of the other."""
        self._extremes.merge(other._extremes)

    def result(self) -> Extremes:
        """The extremes so far."""
        return Extremes(*self._extremes.ends())
