"""An output folder that appears whole or not at all, and never costs the user a file that is not ours."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mobilequant.errors import ResourceError, UsageError
from mobilequant.pipeline.atomic_file import sync_files, sync_folder
from mobilequant.pipeline.lock import empty, locked


def require_free(out: Path, *, force: bool, marker: str) -> None:
    """Refuse an output place before long work begins. A folder that holds ``marker`` is one of ours.

    Raises:
        UsageError: the folder is not empty, and is not ours or may not be replaced.
        ResourceError: the place cannot be written.
    """
    _require_writable(out)
    if out.is_dir() and any(out.iterdir()):
        if not (out / marker).is_file():
            raise UsageError(
                f"the output folder {out} holds other files", "Choose a new folder for --out; these are never deleted."
            )
        if not force:
            raise UsageError(
                f"the output folder {out} already holds a package", "Choose another --out, or replace it with --force."
            )


@contextmanager
def new_folder(out: Path, *, force: bool, marker: str) -> Iterator[Path]:
    """A temporary sibling of ``out`` to fill; on success it is renamed to ``out``, on failure it is removed.

    Raises:
        UsageError, ResourceError: as ``require_free``.
    """
    require_free(out, force=force, marker=marker)
    out = Path(os.path.realpath(out))  # where a link leads; the link stays
    partial, replaced = _sibling(out, "partial"), _sibling(out, "replaced")
    with locked(partial):
        try:
            empty(partial)  # what a killed run left
            yield partial
            sync_files(partial)
            _exchange(partial, out, replaced)
            sync_folder(out.parent)
        except OSError as error:
            raise ResourceError(
                f"cannot write {out}: {error.strerror or error}", "Free disk space, or choose another --out."
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)


def _exchange(partial: Path, out: Path, replaced: Path) -> None:
    """Put ``partial`` in the place of ``out``; when that fails, ``out`` is as it was."""
    if not out.exists():
        partial.rename(out)
        return
    shutil.rmtree(replaced, ignore_errors=True)
    out.rename(replaced)
    try:
        partial.rename(out)
    except OSError:
        replaced.rename(out)
        raise


def _require_writable(out: Path) -> None:
    try:
        out = Path(os.path.realpath(out))
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists() and not out.is_dir():
            raise NotADirectoryError(20, "a file of that name is in the way")
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent):
            pass
    except OSError as error:
        raise ResourceError(f"cannot write to {out}: {error.strerror}", "Choose another folder for --out.") from None


def _sibling(out: Path, role: str) -> Path:
    return out.with_name(f".{out.name}.{role}")
