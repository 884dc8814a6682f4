"""Build and run limits.cpp, and say how much of a limit a speed is.

PYTHONPATH=bench python -m engine.limits        prints one line of JSON
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.priority import prefix
from engine.row import Variant
from engine.shapes import Shape, peers_dir
from engine.systems.process import run
from mobilequant.data.cache import make_folder

SOURCE = Path(__file__).with_name("limits.cpp")
_CACHED_BYTES = 96e6  # models below it partly live in a last-level cache of 32 MB: the array of 76 MB is their limit


def measured_limits(threads: Sequence[int]) -> dict[str, Any]:
    """{"int8_instruction", "limits": one entry for each number of threads}."""
    program = peers_dir() / "limits"
    if not program.is_file() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        make_folder(program.parent)
        run(["g++", "-O3", "-march=native", "-std=c++17", "-pthread", SOURCE, "-o", program])
    return json.loads(run([*prefix(), program, *map(str, threads)]))


def decode_bytes(shape: Shape, variant: Variant) -> float:
    """Weights read to decode one token. Keys and values come on top; they are left out, for all systems alike."""
    return (shape.linear_weights * variant.linear_bits + shape.head_weights * variant.head_bits) / 8


def decode_share(shape: Shape, variant: Variant, tok_s: float, limit: Mapping[str, float]) -> float:
    """Of the measured read bandwidth, that the weights take."""
    needed = decode_bytes(shape, variant)
    read = max(limit["read_gb_s"], limit["read_76mb_gb_s"]) if needed < _CACHED_BYTES else limit["read_gb_s"]
    return tok_s * needed / (1e9 * read)


def prefill_share(shape: Shape, tok_s: float, limit: Mapping[str, float]) -> float:
    """Of the measured int8 peak, that the products of the blocks' matrices take; attention and head are left out."""
    return tok_s * 2 * shape.linear_weights / (1e9 * limit["int8_gops"])


if __name__ == "__main__":
    print(json.dumps(measured_limits([1, 2])))
