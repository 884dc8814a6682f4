"""How many threads the engine takes unless it is told."""

from __future__ import annotations

import os
from pathlib import Path

from mobilequant.errors import UsageError

MOST_THREADS = 256  # more than this is a mistake
_MOST_BY_DEFAULT = 8  # more help little: a token at a time waits for memory
_TOPOLOGY = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "quota period" in microseconds, or "max period"


def default_threads() -> int:
    """``OMP_NUM_THREADS``, else the number of physical cores that this process or its container may use, at most 8.

    Two threads on one core take each other's place at the vector units.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return min(int(asked), MOST_THREADS)
    return max(1, min(len({_core_of(cpu) for cpu in _allowed()}), _quota(), _MOST_BY_DEFAULT))


def require_threads(threads: int) -> None:
    """Refuse a number of threads that cannot be meant.

    Raises:
        UsageError: fewer than 1, or more than 256.
    """
    if type(threads) is not int or not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"the engine cannot run with {threads!r} threads", f"Use 1 to {MOST_THREADS} of them.")


def _allowed() -> list[int]:
    """Logical processors of this process; where the system does not tell, all there are."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _quota() -> int:
    """How many processors a container may use at the same time; many where there is no limit."""
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return MOST_THREADS


def _core_of(cpu: int) -> str:
    """A name that logical processors of the same core share."""
    try:
        return (_TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
    except OSError:
        return str(cpu)
