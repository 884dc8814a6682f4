"""The one way in which a check of a graph fails."""

from __future__ import annotations

from mobilequant.errors import PackageError


def require(condition: bool, message: str) -> None:
    """Refuse a graph that does not meet a rule of the format.

    Raises:
        PackageError: ``condition`` is false.
    """
    if not condition:
        raise PackageError(
            f"the integer graph is not valid: {message}",
            "The package is corrupted or of another version; make it again.",
        )
