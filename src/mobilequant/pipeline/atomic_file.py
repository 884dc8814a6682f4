"""Files that are either whole or not there, whatever kills the program in between."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mobilequant.errors import ResourceError


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` (UTF-8, as is) in one step; parent folders are made.

    Raises:
        ResourceError: the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise ResourceError(
            f"cannot write {path}: {error.strerror}", "Choose another place or free some disk."
        ) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside it, force it to disk, then rename it into place."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # temporary files are private
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_files(folder: Path) -> None:
    """Force every file in ``folder`` and below to disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)


def sync_folder(folder: Path) -> None:
    """Force a rename inside ``folder`` to disk."""
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
