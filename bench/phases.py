"""How long each phase of a run takes, and how much memory of the GPU: a tracker for scripts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch

from mobilequant.pipeline.quantity import size

Item = TypeVar("Item")


class Phases:
    """A tracker that prints: a phase lasts from the first item of one task to that of the next."""

    def __init__(self, device: str, first: str) -> None:
        self.on_gpu = torch.device(device).type == "cuda"
        self.found: list[dict[str, Any]] = []
        self._name, self._start = "", 0.0
        self.begin(first)

    def __call__(self, items: Iterable[Item], task: str, total: int) -> Iterator[Item]:
        self.begin(task)
        yield from items
        self.begin(f"behind {task}")

    def begin(self, name: str) -> None:
        """End the phase that goes on, and begin another."""
        self.end()
        self._name, self._start = name, time.monotonic()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def end(self) -> None:
        """Tell of the phase that goes on."""
        if not self._name:
            return
        peak = torch.cuda.max_memory_allocated() if self.on_gpu else 0
        seconds = time.monotonic() - self._start
        self.found.append({"name": self._name, "seconds": round(seconds, 2), "device_peak_bytes": peak})
        print(f"{seconds:8.1f} s  {size(peak):>8}  {self._name}", flush=True)
        self._name = ""

    @property
    def device_peak_bytes(self) -> int:
        """Of the phases that have ended; 0 without a GPU."""
        return max((phase["device_peak_bytes"] for phase in self.found), default=0)
