"""How long training takes, how much it sees at a time, and how fast it moves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """A learning rate that falls from ``first`` to ``last`` along half a cosine."""

    first: float
    last: float

    def at(self, progress: float) -> float:
        """The rate when ``progress`` (0 … 1) of the steps are done."""
        return self.last + 0.5 * (self.first - self.last) * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Schedule:
    """``batch`` items at a time, all of them ``epochs`` times.

    rates: by kind of leaf, which is the last part of its name. clip: largest norm of the gradient of one kind.
    warmup: part of the steps in which rates rise from zero. checks: how often the state is kept and, where there is
    something held out, looked at.
    """

    epochs: int
    batch: int
    rates: Mapping[str, Rate]
    clip: float | None = 1.0
    warmup: float = 0.05
    checks: int = 8

    def batches(self, items: int) -> int:
        """Steps of one epoch; what does not fill a batch is left to another epoch."""
        return max(1, items // self.batch)

    def steps(self, items: int) -> int:
        """Steps of all epochs."""
        return self.epochs * self.batches(items)

    def rate(self, kind: str, step: int, total: int) -> float:
        """The rate of one kind of leaf in one of ``total`` steps."""
        rise = min(1.0, (step + 1) / max(1.0, self.warmup * total))
        return rise * self.rates[kind].at(step / total)

    def check_steps(self, total: int) -> frozenset[int]:
        """The numbers of steps after which the state is kept."""
        return frozenset(round(total * (i + 1) / self.checks) for i in range(self.checks))
