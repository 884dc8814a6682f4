"""One run at a time in a folder. The lock ends with the process, however that ends, and leaves no file behind."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mobilequant.errors import ResourceError, UsageError

if sys.platform != "win32":
    import fcntl


class LockedError(UsageError):
    """Another run is at work in a folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create ``folder`` where needed and keep other runs out of it.

    Raises:
        LockedError: another run works there.
        ResourceError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = None if sys.platform == "win32" else os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ResourceError(f"cannot write to {folder}: {error.strerror}", "Choose another folder.") from error
    if handle is None:  # no folder can be locked there
        yield
        return
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether this run may work in ``folder``, because no other does; the folder is deleted in the end, if it is empty.

    A run that asks while another is just ending may be let in: look first at what that one has left.

    Raises:
        ResourceError: the folder cannot be made.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except LockedError:
            yield False
            return
        try:
            yield True
        finally:
            with suppress(OSError):
                folder.rmdir()


def empty(folder: Path) -> None:
    """Delete everything in a folder; the folder itself stays, and with it a lock on it."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _lock(handle: int, folder: Path) -> None:
    with suppress(OSError):  # some network file systems know no locks
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                f"another run is at work in {folder}",
                "Wait for its end, or choose another --out and --work-dir.",
            ) from None
