"""Errors of the C++ core become those of the project: with the place, a remedy and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mobilequant.engine import _core
from mobilequant.errors import PackageError, UsageError

DAMAGED = "The package is damaged or incomplete: copy it again, or make it again with `mobilequant quantize`."


@contextmanager
def translated(where: str, remedy: str) -> Iterator[None]:
    """Put ``where`` in front of what the core says; ``remedy`` is for requests that it cannot do.

    Raises:
        PackageError, UsageError: in place of the core's.
    """
    try:
        yield
    except _core.PackageError as error:
        raise PackageError(f"{where}: {error}", DAMAGED) from error
    except _core.UsageError as error:
        raise UsageError(f"{where}: {error}", remedy) from error
