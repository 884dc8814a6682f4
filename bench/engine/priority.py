"""How a process is timed fairly on a machine that does other things as well.

With ``chrt -f 10`` it goes before everything of ordinary priority; its own threads wait for nobody. Where that is not
permitted, it has to wait until the machine is idle.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from mobilequant.errors import ResourceError

_REAL_TIME = ["chrt", "-f", "10"]
_IDLE_SHARE, _LOOK_S, _PATIENCE_S = 0.05, 1.0, 900.0


def prefix() -> list[str]:
    """The words to put in front of a command, none where a raised priority is not permitted."""
    if shutil.which("chrt") is None:
        return []
    allowed = subprocess.run([*_REAL_TIME, "true"], capture_output=True).returncode == 0
    return list(_REAL_TIME) if allowed else []


@dataclass(frozen=True)
class Ticks:
    """CPU time of the whole machine since it was started, in clock ticks (Linux's /proc/stat)."""

    busy: int
    total: int

    @classmethod
    def now(cls) -> Ticks:
        return cls.parse(Path("/proc/stat").read_text())

    @classmethod
    def parse(cls, stat: str) -> Ticks:
        """From the line "cpu user nice system idle iowait irq softirq steal …"; guests are counted in user."""
        numbers = [int(word) for word in stat.splitlines()[0].split()[1:9]]
        return cls(sum(numbers) - numbers[3] - numbers[4], sum(numbers))

    def share_since(self, earlier: Ticks) -> float:
        """How much of the machine was busy in between, 0 … 1."""
        return (self.busy - earlier.busy) / max(1, self.total - earlier.total)


def wait_until_idle() -> None:
    """Return after a second in which next to nothing ran. Raises ResourceError when that does not come."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        before = Ticks.now()
        time.sleep(_LOOK_S)
        if Ticks.now().share_since(before) < _IDLE_SHARE:
            return
    raise ResourceError(
        "The machine did not become idle, and this user may not raise the priority of a process.",
        "End other programs, or run as a user who may use chrt -f.",
    )
