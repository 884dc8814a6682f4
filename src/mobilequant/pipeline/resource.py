"""What a run will cost, told before it starts, and refused when the machine cannot pay."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from mobilequant.errors import ResourceError


@dataclass(frozen=True)
class Plan:
    """An estimate: wall time, peak memory of the process, and disk for the work folder and the package."""

    time_s: float
    memory_bytes: int
    work_bytes: int
    package_bytes: int


def require(plan: Plan, *, out: Path, work_dir: Path) -> None:
    """Compare a plan with the free memory and disk of this machine.

    Raises:
        ResourceError: not enough; gives both numbers and what to change.
    """
    free_memory = psutil.virtual_memory().available
    if plan.memory_bytes > free_memory:
        raise ResourceError(
            f"this run needs about {size(plan.memory_bytes)} of memory, and {size(free_memory)} are free",
            "Close other programs, choose a smaller model, or lower data.window in the recipe.",
        )
    if _device(out) == _device(work_dir):
        _require_disk(work_dir, plan.work_bytes + plan.package_bytes)
        return
    _require_disk(out, plan.package_bytes)
    _require_disk(work_dir, plan.work_bytes)


def _require_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(_nearest_existing(folder)).free
    if needed > free:
        raise ResourceError(
            f"this run needs about {size(needed)} of disk at {folder}, and {size(free)} are free",
            "Free some space, or put --work-dir and --out on another disk.",
        )


def _device(folder: Path) -> int:
    return _nearest_existing(folder).stat().st_dev


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def size(num_bytes: float) -> str:
    """A number of bytes for people: ``1.5 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"


def duration(seconds: float) -> str:
    """A time for people: ``45 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
