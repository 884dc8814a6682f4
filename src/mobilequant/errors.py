"""What a user sees when something is wrong: each error says what happened, where, and what to do.

The command line prints ``message`` and ``remedy`` and ends with ``exit_code``; nothing is half-written.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The beginning of a remedy: "Did you mean 'rtn'? " where a known word is near, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}? " if near else ""


class MobileQuantError(Exception):
    """Base of every expected failure. ``remedy`` is the sentence that tells the user what to do next."""

    exit_code = 1

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}\n{remedy}")
        self.message = message
        self.remedy = remedy


class UsageError(MobileQuantError):
    """The request itself cannot be meant: unknown preset, unknown recipe key, bad value."""

    exit_code = 2


class CheckpointError(MobileQuantError):
    """The model on disk is missing, corrupt, of an unknown family, or contains code or NaN."""

    exit_code = 3


class DataError(MobileQuantError):
    """Calibration or scoring text is missing, too short, or overlaps."""

    exit_code = 4


class ResourceError(MobileQuantError):
    """Not enough memory or disk, or a place that cannot be written."""

    exit_code = 5


class LoweringError(MobileQuantError):
    """The quantized model cannot become an integer graph: an accumulator bound, a shape, a missing range."""

    exit_code = 6


class PackageError(MobileQuantError):
    """A packaged model is truncated, corrupted, or of a version that this program does not read."""

    exit_code = 7


class TrainingError(MobileQuantError):
    """A loss that is no number any more."""

    exit_code = 8
