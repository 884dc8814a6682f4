"""Windows of tokens, and the proof that calibrating and scoring windows come from different texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mobilequant.data.text import Text
from mobilequant.errors import DataError, UsageError

PASSAGE_CHARACTERS = 100  # names of institutions and formulas of law that any two texts may share reach 86


def windows(ids: Sequence[int], *, window: int, count: int | None, seed: int | None) -> Tensor:
    """Non-overlapping windows (N, window) int64 of a token sequence; what is left at its end is dropped.

    ``count`` None takes all. ``seed`` None takes the first ones in order, otherwise ``count`` different ones are
    drawn at random, in random order. Raises DataError when the text is too short.
    """
    if window < 2 or (count is not None and count < 1):
        raise UsageError(
            f"{count} windows of {window} tokens make no sense.", "Ask for 1 or more, of 2 or more tokens."
        )
    available = len(ids) // window
    if available < (count or 1):
        raise DataError(
            f"The text is too short: {count or 1} windows of {window} tokens need {(count or 1) * window:,} tokens, "
            f"and it has {len(ids):,}.",
            "Choose a longer text, fewer windows or shorter ones.",
        )
    cut = torch.tensor(ids[: available * window], dtype=torch.int64).view(available, window)
    if seed is None:
        return cut[:count]
    order = torch.randperm(available, generator=torch.Generator().manual_seed(seed))
    return cut[order[:count]]


def after_prefix(tokens: Tensor, prefix: Sequence[int], bos: int | None) -> Tensor:
    """Tokens (…, T) as they follow a constant prefix: a BOS that the prefix already holds is not given twice."""
    repeats = bos is not None and len(prefix) > 0 and prefix[0] == bos and bool((tokens[..., 0] == bos).all())
    return tokens[..., 1:] if repeats else tokens


def refuse_overlap(calibration: Text, scoring: Text) -> None:
    """Raise DataError when the two texts share a passage, whatever its case and white space.

    Certain to find shared passages of 149 characters and more, and never fires below 100: set phrases ("Be it enacted
    by the Senate and House of Representatives of the United States of America") stay below that.
    """
    passage = shared_passage(calibration.content, scoring.content)
    if passage is not None:
        raise DataError(
            f"Calibration text {calibration.name} and scoring text {scoring.name} share a passage: {passage!r}.",
            "Calibrate on another text: a score on text that the model was tuned on means nothing.",
        )


def shared_passage(first: str, second: str, characters: int = PASSAGE_CHARACTERS) -> str | None:
    """The first stretch of so many characters found in both texts (all of the shorter one, if it is below that)."""
    shorter, longer = sorted((_plain(first), _plain(second)), key=len)
    size = min(characters, len(shorter))
    # Blocks at every size/2 of the long text, looked up from every position of the short one.
    stride = characters // 2 if size == characters else 1
    blocks = {longer[start : start + size] for start in range(0, len(longer) - size + 1, stride)}
    starts = range(len(shorter) - size + 1)
    return next((shorter[start : start + size] for start in starts if shorter[start : start + size] in blocks), None)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
