"""What a long step needs so that a killed run can continue and end in the same bytes."""

from __future__ import annotations

from typing import Protocol

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
