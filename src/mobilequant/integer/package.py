"""The package on disk: one folder that holds a whole integer model (specification: ``docs/package-format.md``).

package.json               format version, what this is and where it comes from, size and sha256 of every file
graph.json                 the IntegerGraph without its arrays
weights.safetensors        its constants; 4-bit codes packed two per byte
simulation.safetensors     the few real numbers that fake-quant simulation needs; engines never read it
tokenizer.json, …          the tokenizer as it came with the model
README.md                  the model card
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mobilequant.data.package import sha256_of
from mobilequant.errors import PackageError
from mobilequant.integer.graph import Constant, IntegerGraph, KVLayer, Op, TensorSpec
from mobilequant.integer.schema import validate
from mobilequant.models.json_file import LARGEST_BYTES, without_duplicates
from mobilequant.models.safetensors_header import check_alignment, check_header
from mobilequant.numerics.packing import pack_int4, unpack_int4
from mobilequant.pipeline.resource import require_memory

FORMAT, VERSION = "mobilequant-package", 1
MANIFEST, GRAPH, WEIGHTS = "package.json", "graph.json", "weights.safetensors"
_MATRIX = 2  # dimensions
_REMEDY = "The package is damaged or incomplete: copy it again, or make it again with `mobilequant quantize`."


class _ConstantEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    dtype: Literal["int4", "int8", "uint8", "int16", "int32"]
    shape: tuple[int, ...]


class _GraphFile(BaseModel):
    """``graph.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tensors: tuple[TensorSpec, ...]
    ops: tuple[Op, ...]
    constants: dict[str, _ConstantEntry]
    caches: tuple[KVLayer, ...]
    output: str
    vocab_size: int
    context: int
    num_prefix: int
    prefix_tokens: tuple[int, ...]


def save_graph(graph: IntegerGraph, folder: Path) -> None:
    """Write ``graph.json`` and ``weights.safetensors`` into an existing folder."""
    entries = {
        name: _ConstantEntry.model_validate({"dtype": constant.dtype, "shape": constant.array.shape})
        for name, constant in graph.constants.items()
    }
    file = _GraphFile(
        tensors=tuple(graph.tensors.values()),
        ops=graph.ops,
        constants=entries,
        caches=graph.caches,
        output=graph.output,
        vocab_size=graph.vocab_size,
        context=graph.context,
        num_prefix=graph.num_prefix,
        prefix_tokens=graph.prefix_tokens,
    )
    (folder / GRAPH).write_text(file.model_dump_json(indent=1) + "\n", encoding="utf-8")
    arrays = {name: pack_int4(c.array) if c.dtype == "int4" else c.array for name, c in graph.constants.items()}
    save_file(arrays, folder / WEIGHTS)


def load_graph(folder: Path) -> IntegerGraph:
    """Read and fully check a packaged graph.

    Raises:
        PackageError: a file is missing, truncated or corrupted, or the graph is not valid.
    """
    try:
        file = TypeAdapter(_GraphFile).validate_json(_read_json(folder / GRAPH), strict=True)
        check_header(folder / WEIGHTS)
        arrays = load_file(folder / WEIGHTS)
        check_alignment(folder / WEIGHTS)
    except OSError as error:
        raise PackageError(f"{folder}: cannot read {error.filename or WEIGHTS}", _REMEDY) from error
    except ValidationError as error:
        raise PackageError(f"{folder / GRAPH}: {first_problem(error)}", _REMEDY) from error
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:  # also dtypes that numpy lacks
        raise PackageError(f"{folder / WEIGHTS}: {error}", _REMEDY) from error
    return _assemble(file, arrays)


def first_problem(error: ValidationError) -> str:
    """Where a file breaks its schema, and how."""
    detail = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"


def _read_json(path: Path) -> bytes:
    """The content of a JSON file of sane size in which no name stands twice."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"it has more than {LARGEST_BYTES:,} bytes")
        content = path.read_bytes()
        json.loads(content, object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{path} is no valid JSON: {error}", _REMEDY) from error
    return content


def _assemble(file: _GraphFile, arrays: Mapping[str, np.ndarray]) -> IntegerGraph:
    tensors = {tensor.name: tensor for tensor in file.tensors}
    if len(tensors) < len(file.tensors):
        raise PackageError("two tensors of the graph have the same name", _REMEDY)
    graph = IntegerGraph(
        tensors=tensors,
        ops=file.ops,
        constants={name: _read_constant(name, entry, arrays) for name, entry in file.constants.items()},
        caches=file.caches,
        output=file.output,
        vocab_size=file.vocab_size,
        context=file.context,
        num_prefix=file.num_prefix,
        prefix_tokens=file.prefix_tokens,
    )
    validate(graph)
    if unknown := arrays.keys() - file.constants.keys():
        raise PackageError(f"{WEIGHTS} holds {min(unknown)!r}, which is no constant of the graph", _REMEDY)
    return graph


def _read_constant(name: str, entry: _ConstantEntry, arrays: Mapping[str, np.ndarray]) -> Constant:
    array = arrays.get(name)
    if array is None:
        raise PackageError(f"constant {name!r} is not in {WEIGHTS}", _REMEDY)
    dtype, shape = entry.dtype, entry.shape
    if entry.dtype == "int4":
        dtype, shape = "uint8", (*shape[:-1], (shape[-1] + 1) // 2) if len(shape) == _MATRIX else ()
    if array.shape != shape or array.dtype.name != dtype:
        found = f"{array.dtype.name} {array.shape}"
        raise PackageError(f"constant {name!r} is {found}, expected {entry.dtype} {entry.shape}", _REMEDY)
    return Constant(entry.dtype, unpack_int4(array, entry.shape[1]) if entry.dtype == "int4" else array)


def write_manifest(folder: Path, about: Mapping[str, Any]) -> None:
    """Write ``package.json``: what the package is (``about``), and size and sha256 of every other file."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    manifest = {"format": FORMAT, "version": VERSION, **about, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a package, its version and the presence and size of its files checked.

    Raises:
        PackageError: no package lies there, it is of another version, or a file is missing or truncated.
        ResourceError: it does not fit into memory.
    """
    if not (folder / MANIFEST).is_file():
        raise PackageError(
            f"{folder} is not a MobileQuant package (no {MANIFEST})",
            "Make one with `mobilequant quantize MODEL --out DIR`.",
        )
    try:
        manifest = json.loads(_read_json(folder / MANIFEST))
    except OSError as error:
        raise PackageError(f"cannot read {folder / MANIFEST}: {error.strerror}", _REMEDY) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise PackageError(f"{folder / MANIFEST} is not of format {FORMAT!r}", _REMEDY)
    version = manifest.get("version")
    if type(version) is not int or version != VERSION:
        raise PackageError(
            f"{folder} is a package of version {version!r}; this program reads version {VERSION}",
            "Use the MobileQuant version that wrote it, or quantize again.",
        )
    _check_folder(folder)
    _check_files(folder, manifest.get("files"))
    return manifest


def verify_files(folder: Path) -> dict[str, Any]:
    """The manifest, read and checked, and the sha256 of every file compared with it.

    Raises:
        PackageError: a file differs from what was written.
        ResourceError: the package does not fit into memory.
    """
    manifest = read_manifest(folder)
    for name, entry in manifest["files"].items():
        try:
            found = sha256_of(folder / name)
        except OSError as error:
            raise PackageError(f"cannot read {folder / name}: {error.strerror}", _REMEDY) from error
        if found != entry.get("sha256"):
            raise PackageError(f"{folder / name} was changed after it was written", _REMEDY)
    return manifest


def _check_files(folder: Path, files: Any) -> None:
    if not isinstance(files, dict) or not {GRAPH, WEIGHTS} <= set(files):
        raise PackageError(f"{folder / MANIFEST} does not list {GRAPH} and {WEIGHTS}", _REMEDY)
    for name, entry in files.items():
        path = folder / name
        if Path(name).name != name or not isinstance(entry, dict):
            raise PackageError(
                f"{folder / MANIFEST} names the file {name!r}, which cannot be part of a package", _REMEDY
            )
        if not path.is_file() or path.stat().st_size != entry.get("bytes"):
            found = f"{path.stat().st_size} bytes" if path.is_file() else "missing"
            raise PackageError(f"{path} is {found}, expected {entry.get('bytes')} bytes", _REMEDY)
    require_memory(sum(entry["bytes"] for entry in files.values()), f"reading {folder}")


def _check_folder(folder: Path) -> None:
    """Also what no manifest lists may not open other files of this machine, or be too large to read."""
    home = Path(os.path.realpath(folder))  # unlike Path.resolve, it also answers for a link to itself
    for path in folder.iterdir():
        if path.is_symlink() and Path(os.path.realpath(path)).parent != home:
            raise PackageError(f"{path} is a link that leads out of the package", "Put the file itself there.")
        if path.suffix == ".json" and path.is_file() and path.stat().st_size > LARGEST_BYTES:
            raise PackageError(f"{path} has more than {LARGEST_BYTES:,} bytes", _REMEDY)
