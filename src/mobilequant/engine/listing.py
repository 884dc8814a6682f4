"""The files of a package beside graph and weights, read only as the manifest lists them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mobilequant.engine.failure import DAMAGED
from mobilequant.errors import CheckpointError, PackageError
from mobilequant.models.json_file import LARGEST_BYTES, read_json

MANIFEST = "package.json"


def listed_files(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Those of ``names`` that the package has, each compared with its sha256.

    Raises:
        PackageError: a file was changed, or lies there without being listed.
    """
    files = _listing(folder)
    return {name: _checked(folder / name, files) for name in names if name in files or (folder / name).exists()}


def package_bytes(folder: Path) -> int:
    """The size of all files that the manifest lists."""
    return sum((folder / name).stat().st_size for name in _listing(folder))


def _listing(folder: Path) -> dict[str, object]:
    try:
        files = read_json(folder / MANIFEST).get("files")
    except CheckpointError as error:
        raise PackageError(error.message, DAMAGED) from error
    if not isinstance(files, dict):
        raise PackageError(f"{folder / MANIFEST} lists no files", DAMAGED)
    return files


def _checked(path: Path, files: dict[str, object]) -> Path:
    entry = files.get(path.name)
    if not isinstance(entry, dict):
        raise PackageError(f"{path} is not listed in {MANIFEST}", "Remove it, or quantize again with it in the model.")
    try:
        content = path.read_bytes() if path.stat().st_size <= LARGEST_BYTES else b""
    except OSError as error:
        raise PackageError(f"cannot read {path}: {error.strerror}", DAMAGED) from error
    if hashlib.sha256(content).hexdigest() != entry.get("sha256"):
        raise PackageError(f"{path} was changed after it was written", DAMAGED)
    return path
