"""Second moments of a linear's input: the Hessian of its squared output error, up to a factor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Hessian:
    """``matrix`` (C, C) float32: the average of x·xᵀ over ``tokens`` tokens."""

    matrix: Tensor
    tokens: int


class HessianCollector:
    """Running sum of x·xᵀ in float32."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._tokens = 0

    def see(self, value: Tensor) -> None:
        """(B, T, C)."""
        rows = value.flatten(0, -2).float()
        if self._sum is None:
            self._sum = torch.zeros(rows.shape[1], rows.shape[1], device=rows.device)
        self._sum.addmm_(rows.T, rows)
        self._tokens += rows.shape[0]

    def see_constant(self, value: Tensor) -> None:
        """A linear never reads the KV prefix."""

    def merge(self, other: HessianCollector) -> None:
        """Sums and counts add up."""
        if other._sum is not None:
            self._sum = other._sum if self._sum is None else self._sum.add_(other._sum)
            self._tokens += other._tokens

    def result(self) -> Hessian:
        """The average so far."""
        assert self._sum is not None, "no batch was seen"
        return Hessian(self._sum / self._tokens, self._tokens)
