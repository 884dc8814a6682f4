"""What a run will cost, told before it starts, and refused when the machine cannot pay."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from mobilequant.errors import ResourceError
from mobilequant.pipeline.quantity import size


@dataclass(frozen=True)
class Plan:
    """An estimate: wall time, peak memory of the process, disk for the work folder and the package, and peak memory of
    the GPU where there is one."""

    time_s: float
    memory_bytes: int
    work_bytes: int
    package_bytes: int
    device_bytes: int = 0

    def shared(self, processes: int, here: int) -> Plan:
        """The plan where so many processes share the work, some of them here, each with a model of its own."""
        return replace(self, time_s=self.time_s / processes, memory_bytes=self.memory_bytes * here)


def require(plan: Plan, *, out: Path, work_dir: Path) -> None:
    """Compare a plan with the free memory and disk of this machine.

    Raises:
        ResourceError: not enough; gives both numbers and what to change.
    """
    require_memory(
        plan.memory_bytes, "this run", "or lower data.window in the recipe, or the batch of a method that trains"
    )
    if _device(out) == _device(work_dir):
        _require_disk(work_dir, plan.work_bytes + plan.package_bytes)
        return
    _require_disk(out, plan.package_bytes)
    _require_disk(work_dir, plan.work_bytes)


def require_memory(needed_bytes: int, task: str, otherwise: str = "or use a larger machine") -> None:
    """Refuse what does not fit into the free memory of this machine, before it is begun.

    Raises:
        ResourceError: gives both numbers.
    """
    free_bytes = psutil.virtual_memory().available
    if needed_bytes > free_bytes:
        raise ResourceError(
            f"{task} needs about {size(needed_bytes)} of memory, and {size(free_bytes)} are free",
            f"Close other programs, choose a smaller model, {otherwise}.",
        )


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
