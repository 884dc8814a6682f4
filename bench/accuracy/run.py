"""Make many rows side by side, each in a process of its own that sees one device; the long ones first."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accuracy.row import Row
from mobilequant.errors import ResourceError

_SECONDS_BETWEEN_LOOKS = 0.2
Report = Callable[[Row, bool], None]  # the row that has ended, and whether it is done


class Pace:
    """How long rows take, told from those that have ended: the one most like it, and never less than that took.

    Of several that are as much alike the longest counts: a short one may have gone on from an earlier run.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []

    def learn(self, cost: float, seconds: float) -> None:
        self._seen.append((cost, seconds))

    def seconds(self, cost: float) -> float:
        """0 as long as nothing is known."""
        if not self._seen:
            return 0.0
        like, seconds = min(self._seen, key=lambda seen: (max(seen[0] / cost, cost / seen[0]), -seen[1]))
        return seconds * max(1.0, cost / like)


@dataclass
class Crew:
    """``parallel`` workers on each device; ``command`` makes a row on a device when it is run.

    A row that finds no room beside the others on its device waits, and from then on there is one worker fewer.
    """

    command: Callable[[Row, str], Sequence[str]]
    log: Callable[[Row], Path]
    devices: Sequence[str]
    parallel: int
    end: float  # of time.monotonic(), behind which no row should go on
    pace: Pace = field(default_factory=Pace)

    def run(self, costs: Iterable[tuple[Row, float]], report: Report) -> list[Row]:
        """Make the rows; what comes back are those that were not begun."""
        waiting = sorted(costs, key=lambda each: each[1], reverse=True)
        free = list(self.devices) * self.parallel
        running: list[_Running] = []
        try:
            while True:
                while free and (found := self._next(waiting)):
                    waiting.remove(found)
                    running.append(self._begun(*found, free.pop(0)))
                if not running:
                    return [row for row, _ in waiting]
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                for each in [each for each in running if each.process.poll() is not None]:
                    running.remove(each)
                    if each.lacked_room() and any(other.device == each.device for other in running):
                        waiting.insert(0, (each.row, each.cost))
                        continue
                    free.append(each.device)
                    self._ended(each, report)
        finally:
            for each in running:
                each.process.terminate()

    def _next(self, waiting: Sequence[tuple[Row, float]]) -> tuple[Row, float] | None:
        """The longest that will probably end in time."""
        left = self.end - time.monotonic()
        return next((each for each in waiting if 0 < left >= self.pace.seconds(each[1])), None)

    def _begun(self, row: Row, cost: float, device: str) -> _Running:
        log = self.log(row)
        log.parent.mkdir(parents=True, exist_ok=True)
        workers = len(self.devices) * self.parallel
        with log.open("a") as file:
            process = subprocess.Popen(
                self.command(row, device.partition(":")[0]),
                stdout=file,
                stderr=subprocess.STDOUT,
                env=_environment(device, workers),
            )
        return _Running(row, cost, device, process, time.monotonic())

    def _ended(self, each: _Running, report: Report) -> None:
        done = each.process.returncode == 0
        if done:
            self.pace.learn(each.cost, time.monotonic() - each.start)
        report(each.row, done)


@dataclass(frozen=True, eq=False)
class _Running:
    row: Row
    cost: float
    device: str
    process: subprocess.Popen[bytes]
    start: float

    def lacked_room(self) -> bool:
        return self.process.returncode == ResourceError.exit_code


def _environment(device: str, workers: int) -> dict[str, str]:
    """Of a worker: its GPU is the only one that it sees, and the cores are divided."""
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    found = {"OMP_NUM_THREADS": threads, **os.environ}
    kind, _, number = device.partition(":")
    if kind == "cuda" and number:
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        found["CUDA_VISIBLE_DEVICES"] = visible[int(number)] if visible else number
    return found
