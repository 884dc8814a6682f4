"""Write a file so that a reader, or a kill in the middle, never meets half of it."""

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
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            f"cannot write {path}: {error.strerror}", "Choose another place or free some disk."
        ) from error
