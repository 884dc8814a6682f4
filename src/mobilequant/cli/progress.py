"""Progress with the time that is left: bars on a terminal, lines in a log file, JSON lines for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from mobilequant.cli.log import write_event
from mobilequant.cli.option import LogFormat
from mobilequant.pipeline.progress import Item, Track
from mobilequant.pipeline.quantity import duration

_SECONDS_BETWEEN_LINES = 15.0
_WORTH_A_LINE_S = 2.0


@contextmanager
def tracking(log_format: LogFormat) -> Iterator[Track]:
    """The tracker that fits the format and where standard error goes."""
    if log_format is LogFormat.JSON:
        yield json_track
    elif sys.stderr.isatty():
        with _bars() as track:
            yield track
    else:
        yield line_track


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
    """Yield the items; tell the start, the end and about once a second on standard error, as JSON."""

    def tell(done: int, elapsed_s: float, eta_s: float) -> None:
        write_event("progress", task=task, done=done, total=total, elapsed_s=round(elapsed_s, 1), eta_s=round(eta_s, 1))

    write_event("progress", task=task, done=0, total=total)
    return _telling(items, total, 1.0, tell)


def line_track(items: Iterable[Item], task: str, total: int) -> Iterator[Item]:
    """Yield the items; a line now and then for long work on standard error, as fits a log file."""

    def tell(done: int, elapsed_s: float, eta_s: float) -> None:
        if elapsed_s >= _WORTH_A_LINE_S:
            left = f"about {duration(eta_s)} left" if done < total else f"took {duration(elapsed_s)}"
            sys.stderr.write(f"{task}: {done} of {total}, {left}\n")
            sys.stderr.flush()

    return _telling(items, total, _SECONDS_BETWEEN_LINES, tell)


def _telling(
    items: Iterable[Item], total: int, every_s: float, tell: Callable[[int, float, float], None]
) -> Iterator[Item]:
    """Yield the items; ``tell(done, elapsed_s, eta_s)`` behind the last one and at most every ``every_s`` seconds."""
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or now - last >= every_s:
            last, elapsed_s = now, now - start
            tell(done, elapsed_s, elapsed_s / done * (total - done))
