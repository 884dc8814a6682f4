"""The header of a safetensors file, checked before the library sees the file.

    u64 length of the header │ header: JSON {name: {dtype, shape, data_offsets}} │ data

The library checks that shapes, offsets and the length of the file agree; of a name that stands there twice it would
silently take the last.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

from mobilequant.models.json_file import without_duplicates

LARGEST_BYTES = 100_000_000  # the library's own limit


def check_header(file: Path) -> None:
    """Raise ValueError or RecursionError when the header is longer than the file, no JSON, or repeats a name."""
    _header(file)


def check_alignment(file: Path) -> None:
    """Raise ValueError when an array of a file that the library has read does not begin at a multiple of its element's
    size: who maps the file cannot use it where it lies."""
    length, entries = _header(file)
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        count = prod(entry["shape"])
        if count and (8 + length + first) % ((last - first) // count):
            raise ValueError(f"array {name!r} does not begin at a multiple of its element's size")


def _header(file: Path) -> tuple[int, dict[str, Any]]:
    """Its length in bytes, and what stands in it."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, LARGEST_BYTES):
            raise ValueError(f"the header claims {length:,} bytes, the file has {size:,}")
        return length, json.loads(stream.read(length), object_pairs_hook=without_duplicates)
