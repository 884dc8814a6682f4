"""How long work tells that it goes on, without knowing who listens (a terminal, a JSON log, nobody)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Track(Protocol):
    """Wraps an iterable of ``total`` items whose work is called ``task``; each item taken is one step done."""

    def __call__(self, items: Iterable[Item], task: str, total: int) -> Iterator[Item]:
        """Yield the items unchanged."""
        ...


def silent(items: Iterable[Item], task: str, total: int) -> Iterator[Item]:
    """The tracker that tells nobody."""
    return iter(items)
