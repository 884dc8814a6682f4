"""What a long step needs so that a killed run can continue and end in the same bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from mobilequant.pipeline import parallel
from mobilequant.pipeline.method import Result


class Checkpoint(Protocol):
    """Results of finished units, keyed by (step, unit name)."""

    def load(self, step: str, unit: str) -> Result | None:
        """The saved result, or None when the unit has not been finished."""
        ...

    def save(self, step: str, unit: str, result: Result) -> None:
        """Keep the result of a finished unit; after return it survives a kill."""
        ...


class NoCheckpoint:
    """Remembers nothing."""

    def load(self, step: str, unit: str) -> Result | None:
        """Never finds anything."""
        return None

    def save(self, step: str, unit: str, result: Result) -> None:
        """Keeps nothing."""


@dataclass(frozen=True)
class InMemory:
    """Remembers some steps for as long as it lives."""

    steps: frozenset[str]
    results: dict[tuple[str, str], Result] = field(default_factory=dict)

    def load(self, step: str, unit: str) -> Result | None:
        """What was saved of a remembered step."""
        return self.results.get((step, unit))

    def save(self, step: str, unit: str, result: Result) -> None:
        """Keep the result of a remembered step."""
        if step in self.steps:
            self.results[step, unit] = result


@dataclass(frozen=True)
class Borrowing:
    """Finds some steps in the checkpoint of another run, where that has finished them; saves in its own."""

    own: Checkpoint
    lender: Checkpoint
    steps: frozenset[str]

    def load(self, step: str, unit: str) -> Result | None:
        """The own result, or the lender's."""
        found = self.own.load(step, unit)
        return self.lender.load(step, unit) if found is None and step in self.steps else found

    def save(self, step: str, unit: str, result: Result) -> None:
        """Keep it with the own results."""
        self.own.save(step, unit, result)


@dataclass(frozen=True)
class OfFirst:
    """The checkpoint of the first process for all of a run; the others find what it finds, and keep nothing.

    Each unit must be asked for by all processes, in the same order.
    """

    own: Checkpoint

    def load(self, step: str, unit: str) -> Result | None:
        """What the first process has."""
        return parallel.same(self.own.load(step, unit) if parallel.rank() == 0 else None)

    def save(self, step: str, unit: str, result: Result) -> None:
        """Keep the result of the first process."""
        if parallel.rank() == 0:
            self.own.save(step, unit, result)
