"""One sample: the processes of one case, one after another, with what they printed and what the system says of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.priority import Ticks, prefix, wait_until_idle
from engine.row import SCENARIOS, Case
from engine.shapes import SHAPES
from engine.systems.system import Command, System
from mobilequant.errors import ResourceError

_MEASURE = Path(__file__).with_name("inside") / "measure.py"


@dataclass(frozen=True)
class Ended:
    """A process that did well; ``peak_memory_bytes`` is its largest resident set, files that it maps included."""

    output: str
    peak_memory_bytes: int
    cpu_s: float


def sample(case: Case, system: System) -> dict[str, Any]:
    """What one run says, its size on disk, and how busy others kept the machine meanwhile."""
    shape, variant = SHAPES[case.shape], system.variant(case.variant)
    commands = system.commands(shape, variant, case.threads, SCENARIOS[case.scenario])
    words = prefix()
    if not words:
        wait_until_idle()
    started, before, begun = datetime.now(UTC), Ticks.now(), time.perf_counter()
    ended = [run_timed([*words, *command]) for command in commands]
    seconds, after = time.perf_counter() - begun, Ticks.now()
    own = sum(each.cpu_s for each in ended) / (seconds * (os.cpu_count() or 1))
    found = system.read([each.output for each in ended])
    if not SCENARIOS[case.scenario].prompt:  # what is read there is not the prompt that rows are compared by
        found.pop("prefill_tok_s", None)
    return {
        **found,
        "peak_memory_bytes": max(each.peak_memory_bytes for each in ended),
        "stored_bytes": system.stored_bytes(shape, variant),
        "seconds": seconds,
        "real_time": bool(words),
        "others_share": max(0.0, after.share_since(before) - own),
        "started": started.isoformat(timespec="seconds"),
    }


def run_timed(command: Command) -> Ended:
    """Run a program to its end. Raises ResourceError when it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        words = [sys.executable, "-I", "-S", str(_MEASURE), str(report), *command]
        ended = subprocess.run(words, capture_output=True, text=True)
        told = json.loads(report.read_text()) if report.is_file() else {"code": ended.returncode}
    if told["code"]:
        raise ResourceError(
            f"{' '.join(command)} failed with code {told['code']}: {ended.stderr[-1000:]}",
            "Prepare it again (engine.prepare), or leave this system out.",
        )
    return Ended(ended.stdout, told["peak_memory_bytes"], told["cpu_s"])
