"""Every kernel against what the machine can multiply or read: bench/results/kernels.json, and a table.

    PYTHONPATH=bench python -m kernels.run

Builds ``kernel_bench`` (csrc/bench) with the preset ``native`` and runs it at raised priority where that is permitted.
NOTES.md beside this file says how the kernels came to be what they are.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.limits import measured_limits
from engine.priority import prefix
from mobilequant.pipeline.environment import environment

ROOT = Path(__file__).parents[2]
OUT = ROOT / "bench/results/kernels.json"
_BUILD = ROOT / "build/native"


def main() -> None:
    subprocess.run([_tool("cmake"), "--preset", "native"], cwd=ROOT, check=True, stdout=sys.stderr)
    build = [_tool("cmake"), "--build", str(_BUILD), "--target", "kernel_bench"]
    subprocess.run(build, cwd=ROOT, check=True, stdout=sys.stderr)
    (limit,) = measured_limits([1])["limits"]
    program = [*prefix(), str(_BUILD / "csrc/kernel_bench")]
    told = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    found = [json.loads(line) for line in told.splitlines()]
    OUT.write_text(json.dumps({"limit": limit, "environment": environment().model_dump(), "kernels": found}, indent=1))
    print(table(found, limit))


def _tool(name: str) -> str:
    own = Path(sys.executable).with_name(name)
    return str(own) if own.exists() else shutil.which(name) or name


def table(found: Sequence[Mapping[str, Any]], limit: Mapping[str, float]) -> str:
    """A line for each kernel, a column for each kind of processor; the share of the limit where there is one."""
    kinds = list(dict.fromkeys(line["kernels"] for line in found))
    names = list(dict.fromkeys((line["name"], line["unit"]) for line in found if line["kernels"] == kinds[0]))
    values = {(line["kernels"], _shape(line["name"])): line for line in found}
    head = f"| kernel | unit | {' | '.join(kinds)} |\n|---|---|{'---|' * len(kinds)}"
    body = []
    for name, unit in names:
        cells = [cell(values.get((kind, _shape(name))), limit) for kind in kinds]
        body.append(f"| {_shape(name)} | {unit} | {' | '.join(cells)} |")
    return "\n".join([head, *body])


def _shape(name: str) -> str:
    """Tiles have as many rows as fit the registers, which differ: they are compared all the same."""
    return name if name.endswith(", 1 row") or not name.endswith(" rows") else f"{name.rpartition(', ')[0]}, a tile"


def cell(line: Mapping[str, Any] | None, limit: Mapping[str, float]) -> str:
    if line is None:
        return "–"
    bound = {"GOPS": limit["int8_gops"], "GB/s": max(limit["read_gb_s"], limit["read_76mb_gb_s"])}.get(line["unit"])
    digits = 2 if line["value"] < 10 else 0
    return f"{line['value']:.{digits}f}" + (f" ({line['value'] / bound:.0%})" if bound else "")


if __name__ == "__main__":
    main()
