"""What a run will cost, told before it starts."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from mobilequant.cli import log, output
from mobilequant.cli.option import LogFormat
from mobilequant.pipeline.quantity import duration, size

if TYPE_CHECKING:
    from mobilequant.pipeline.resource import Plan


def tell_plan(plan: Plan, log_format: LogFormat) -> None:
    """Time, memory and disk on standard error: a sentence for people, or a JSON line."""
    if log_format is LogFormat.JSON:
        log.write_event("plan", **asdict(plan))
        return
    on_gpu = f" and {size(plan.device_bytes)} on the GPU" if plan.device_bytes else ""
    output.tell(
        f"Plan: time about {duration(plan.time_s)}, peak memory about {size(plan.memory_bytes)}{on_gpu}, "
        f"disk while it runs {size(plan.work_bytes)}, disk for the package {size(plan.package_bytes)}"
    )
