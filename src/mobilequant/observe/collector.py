"""What every statistic can do: look at values as they stream by, and say what it saw."""

from __future__ import annotations

from typing import Any, Protocol, Self

from torch import Tensor


class Collector(Protocol):
    """One running statistic of one activation point. It keeps no reference to the values it sees."""

    def see(self, value: Tensor) -> None:
        """Take in one batch: (B, T, C), or (B, H, T, D) where the point has heads."""
        ...

    def see_constant(self, value: Tensor) -> None:
        """Take in entries of the constant KV prefix, (H, P, D): stored with every sequence, hence never to be lost."""
        ...

    def merge(self, other: Self) -> None:
        """Take in what the collector of another process saw behind what this one saw; either may have seen nothing."""
        ...

    def result(self) -> Any:
        """The finished statistic."""
        ...
