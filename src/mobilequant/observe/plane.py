"""How far queries or keys reach in every direction of each plane in which RoPE turns them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

DIRECTIONS = 32  # over half a turn; an even number, so that every direction has one at a right angle


class PlaneReachCollector:
    """Largest |first · cos φ + second · sin φ| of each plane, for φ = 0, π/32, …

    A plane is made of the dimensions i and i + ``planes`` of a head, as ``decoder.rotate`` turns them.
    """

    def __init__(self, head_dim: int, planes: int) -> None:
        self._head_dim, self._planes = head_dim, planes
        self._reach: Tensor | None = None

    def see(self, value: Tensor) -> None:
        """(B, T, H·D), or (B, H, T, D) behind RoPE."""
        heads = value if value.dim() == 4 else value.unflatten(-1, (-1, self._head_dim)).transpose(1, 2)
        first, second = (heads[..., i * self._planes : (i + 1) * self._planes].float() for i in (0, 1))
        reach = [self._along(first, second, math.pi * i / DIRECTIONS) for i in range(DIRECTIONS)]
        self._widen(torch.stack(reach, dim=-1))

    def see_constant(self, value: Tensor) -> None:
        """(G, P, D) from the KV prefix."""
        self.see(value[None])

    def merge(self, other: PlaneReachCollector) -> None:
        """The maximum of both."""
        if other._reach is not None:
            self._widen(other._reach)

    def result(self) -> Tensor:
        """(H, planes, DIRECTIONS) float32."""
        assert self._reach is not None, "no batch was seen"
        return self._reach

    def _along(self, first: Tensor, second: Tensor, direction: float) -> Tensor:
        """(H, planes): the largest over batch and tokens."""
        return (first * math.cos(direction) + second * math.sin(direction)).abs().amax(dim=(0, 2))

    def _widen(self, reach: Tensor) -> None:
        self._reach = reach if self._reach is None else torch.maximum(self._reach, reach)
