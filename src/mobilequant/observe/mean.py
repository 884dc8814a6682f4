"""The mean of every channel."""

from __future__ import annotations

import torch
from torch import Tensor


class MeanCollector:
    """Running sum per channel in float64."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._tokens = 0

    def see(self, value: Tensor) -> None:
        """(B, T, C)."""
        self._add(value.flatten(0, -2).sum(0, dtype=torch.float64), value.flatten(0, -2).shape[0])

    def see_constant(self, value: Tensor) -> None:
        """The prefix is not one of the tokens that are averaged."""

    def merge(self, other: MeanCollector) -> None:
        """Sums and counts add up."""
        if other._sum is not None:
            self._add(other._sum, other._tokens)

    def _add(self, total: Tensor, tokens: int) -> None:
        self._sum = total if self._sum is None else self._sum + total
        self._tokens += tokens

    def result(self) -> Tensor:
        """(C,) float64."""
        assert self._sum is not None, "no batch was seen"
        return self._sum / self._tokens
