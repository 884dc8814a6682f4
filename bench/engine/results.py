"""Where numbers lie: one JSON object a line, never rewritten, so that a run that is interrupted goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[1] / "results"
SAMPLES = _FOLDER / "engine_samples.jsonl"
PERPLEXITY = _FOLDER / "engine_perplexity.jsonl"
LIMITS = _FOLDER / "engine_limits.jsonl"
INSTRUCTIONS = _FOLDER / "engine_instructions.json"


def lines(path: Path) -> list[dict[str, Any]]:
    """Those that are there; half a line at the end, left by an interruption, is none."""
    found = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def append(path: Path, line: dict[str, Any]) -> None:
    whole = not path.is_file() or path.read_bytes()[-1:] in (b"", b"\n")
    with path.open("a") as file:
        file.write(("" if whole else "\n") + json.dumps(line) + "\n")
