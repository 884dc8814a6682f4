"""Largest magnitudes: per channel (how much a channel may be scaled) and per token (who is an outlier)."""

from __future__ import annotations

import torch
from torch import Tensor


class AbsMaxCollector:
    """Largest magnitude per channel; heads are channels too, head by head."""

    def __init__(self) -> None:
        self._largest: Tensor | None = None

    def see(self, value: Tensor) -> None:
        """(B, T, C) or (B, H, T, D): the maximum over all dimensions but the channels."""
        self._widen(value.abs().amax(dim=(0, -2)).flatten().float())

    def see_constant(self, value: Tensor) -> None:
        """(H, P, D) from the KV prefix."""
        self.see(value[None])

    def merge(self, other: AbsMaxCollector) -> None:
        """The maximum of both."""
        if other._largest is not None:
            self._widen(other._largest)

    def _widen(self, largest: Tensor) -> None:
        self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)

    def result(self) -> Tensor:
        """(C,) float32, or (H·D,) for a point with heads."""
        assert self._largest is not None, "no batch was seen"
        return self._largest


class TokenAbsMaxCollector:
    """Largest magnitude of every token at its position."""

    def __init__(self) -> None:
        self._batches: list[Tensor] = []

    def see(self, value: Tensor) -> None:
        """(B, T, C) → B more rows of T."""
        self._batches.append(value.abs().amax(dim=-1).float())

    def see_constant(self, value: Tensor) -> None:
        """The prefix is not one of the tokens that are compared."""

    def merge(self, other: TokenAbsMaxCollector) -> None:
        """Its rows follow."""
        self._batches += other._batches

    def result(self) -> Tensor:
        """(N, T) float32."""
        return torch.cat(self._batches)
