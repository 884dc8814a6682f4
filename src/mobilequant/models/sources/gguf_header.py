"""What a GGUF file says about itself, read without trust: every length is compared with the file before it is used.

    "GGUF" │ u32 version │ u64 tensors │ u64 entries │ entries: key, u32 type, value │
    tensor infos: name, u32 rank, u64 dims (fastest first), u32 type, u64 offset │ padding │ tensor data

Strings are u64 length and UTF-8; all numbers are little-endian. Layout: GGUF specification of the ggml project.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from mobilequant.errors import CheckpointError

MAGIC, VERSIONS = b"GGUF", (2, 3)
LARGEST_RANK, LARGEST_DIM, LARGEST_ALIGNMENT = 4, 2**31, 2**16
ALIGNMENT = "general.alignment"
STRING, ARRAY, FLOAT32 = 8, 9, 6
SCALARS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}


@dataclass(frozen=True)
class GGUFTensor:
    """Where a tensor lies: ``shape`` slowest dimension first, ``start`` in bytes from the beginning of the file."""

    name: str
    shape: tuple[int, ...]
    qtype: GGMLQuantizationType
    start: int
    num_bytes: int


@dataclass(frozen=True)
class GGUFHeader:
    """Metadata by key (numbers, strings, lists) and tensors by name."""

    metadata: dict[str, Any]
    tensors: dict[str, GGUFTensor]


_Info = tuple[tuple[int, ...], int, int]  # shape, type, offset behind the header


class _MalformedError(Exception):
    """The file contradicts itself."""


def read_header(path: Path) -> GGUFHeader:
    """The header of a GGUF file. Raises CheckpointError when the file is no GGUF, damaged, or cut short."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _parse(_Cursor(content))
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.", "Check the path.") from error
    except ValueError as error:  # mmap's word for an empty file
        raise CheckpointError(f"{path} is empty.", "Download it again.") from error
    except _MalformedError as error:
        raise CheckpointError(f"{path} is no intact GGUF file: {error}.", "Download it again.") from error


class _Cursor:
    """A position in the file that never passes its end."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self.size = len(content)
        self.position = 0

    def take(self, num_bytes: int) -> bytes:
        """The next bytes."""
        if num_bytes > self.size - self.position:
            raise _MalformedError(
                f"truncated within the header: {self.position + num_bytes:,} bytes expected, {self.size:,} found"
            )
        self.position += num_bytes
        return self._content[self.position - num_bytes : self.position]

    def number(self, layout: str) -> int:
        """The next integer, of a ``struct`` layout."""
        return int(struct.unpack(layout, self.take(struct.calcsize(layout)))[0])

    def count(self, smallest_item_bytes: int) -> int:
        """The next u64 as a number of items, of which the rest of the file must have room for that many."""
        count = self.number("<Q")
        self.require(count * smallest_item_bytes)
        return count

    def require(self, num_bytes: int) -> None:
        """Make sure that so many bytes follow."""
        if num_bytes > self.size - self.position:
            raise _MalformedError(
                f"truncated: {self.position + num_bytes:,} bytes or more expected, {self.size:,} found"
            )

    def string(self) -> str:
        """The next string."""
        return self.take(self.number("<Q")).decode("utf-8", errors="replace")


def _parse(cursor: _Cursor) -> GGUFHeader:
    if cursor.take(4) != MAGIC:
        raise _MalformedError("it does not begin with GGUF")
    version = cursor.number("<I")
    if version not in VERSIONS:
        raise _MalformedError(f"version {version} is not one of {VERSIONS} (or the file is big-endian)")
    num_tensors, num_entries = cursor.number("<Q"), cursor.number("<Q")
    cursor.require(num_tensors * 24 + num_entries * 13)  # the least that so many can take
    metadata = _unique("key", num_entries, lambda: _entry(cursor))
    infos = _unique("tensor", num_tensors, lambda: _info(cursor))
    start = _aligned(cursor.position, _alignment(metadata))
    return GGUFHeader(metadata, {name: _locate(name, info, start, cursor.size) for name, info in infos.items()})


def _unique(kind: str, count: int, read: Callable[[], tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(count):
        name, value = read()
        if name in found:
            raise _MalformedError(f"the {kind} {name!r} stands there twice")
        found[name] = value
    return found


def _entry(cursor: _Cursor) -> tuple[str, Any]:
    key, kind = cursor.string(), cursor.number("<I")
    return key, _array(cursor) if kind == ARRAY else _value(cursor, kind)


def _value(cursor: _Cursor, kind: int) -> Any:
    if kind == STRING:
        return cursor.string()
    value = _numbers(cursor, kind, 1)[0]
    # The shortest decimal that names this float32: 1e-05, not 9.999999747378752e-06.
    return float(str(value)) if kind == FLOAT32 else value.item()


def _array(cursor: _Cursor) -> list[Any]:
    kind = cursor.number("<I")
    if kind == STRING:
        return [cursor.string() for _ in range(cursor.count(8))]
    return _numbers(cursor, kind, cursor.count(1)).tolist()


def _numbers(cursor: _Cursor, kind: int, count: int) -> np.ndarray[Any, Any]:
    if kind not in SCALARS:
        raise _MalformedError(f"a value has the unknown type {kind}")
    dtype = np.dtype(SCALARS[kind])
    return np.frombuffer(cursor.take(count * dtype.itemsize), dtype)


def _info(cursor: _Cursor) -> tuple[str, _Info]:
    name, rank = cursor.string(), cursor.number("<I")
    if not 1 <= rank <= LARGEST_RANK:
        raise _MalformedError(f"tensor {name!r} has {rank} dimensions")
    dims = [cursor.number("<Q") for _ in range(rank)]
    if not all(1 <= dim <= LARGEST_DIM for dim in dims):
        raise _MalformedError(f"tensor {name!r} has the dimensions {dims}")
    return name, (tuple(reversed(dims)), cursor.number("<I"), cursor.number("<Q"))


def _locate(name: str, info: _Info, start: int, size: int) -> GGUFTensor:
    shape, kind, offset = info
    if kind not in iter(GGMLQuantizationType):
        raise _MalformedError(f"tensor {name!r} has the unknown type {kind}")
    qtype = GGMLQuantizationType(kind)
    block_elements, block_bytes = GGML_QUANT_SIZES[qtype]
    if shape[-1] % block_elements:
        raise _MalformedError(f"tensor {name!r} has rows of {shape[-1]}, which {qtype.name} cannot pack")
    num_bytes = math.prod(shape) // block_elements * block_bytes
    if start + offset + num_bytes > size:
        raise _MalformedError(f"truncated: {name!r} needs {start + offset + num_bytes:,} bytes, {size:,} found")
    return GGUFTensor(name, shape, qtype, start + offset, num_bytes)


def _alignment(metadata: dict[str, Any]) -> int:
    alignment = metadata.get(ALIGNMENT, 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= LARGEST_ALIGNMENT or alignment & (alignment - 1):
        raise _MalformedError(f"the alignment is {alignment!r}")
    return alignment


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
