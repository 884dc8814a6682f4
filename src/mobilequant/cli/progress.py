"""Progress with the time that is left: bars on a terminal, JSON lines for programs, nothing where nobody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mobilequant.cli.log import write_event
from mobilequant.cli.option import LogFormat
from mobilequant.pipeline.progress import Item, Track, silent

_SECONDS_BETWEEN_EVENTS = 1.0


@contextmanager
def tracking(log_format: LogFormat) -> Iterator[Track]:
    """The tracker that fits the format and where standard error goes."""
    if log_format is LogFormat.JSON:
        yield json_track
    elif sys.stderr.isatty():
        with _bars() as track:
            yield track
    else:
        yield silent


@contextmanager
def _bars() -> Iterator[Track]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def track(items: Iterable[Item], task: str, total: int) -> Iterator[Item]:
            return iter(progress.track(items, total=total, description=task))

        yield track


def json_track(items: Iterable[Item], task: str, total: int) -> Iterator[Item]:
    """Yield the items; tell the start, the end and about once a second on standard error."""
    start = last = time.monotonic()
    write_event("progress", task=task, done=0, total=total)
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or now - last >= _SECONDS_BETWEEN_EVENTS:
            last, elapsed = now, now - start
            left = elapsed / done * (total - done)
            write_event(
                "progress", task=task, done=done, total=total, elapsed_s=round(elapsed, 1), eta_s=round(left, 1)
            )
