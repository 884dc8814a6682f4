"""Text that the float model writes: windows drawn token by token, many at a time.

    token ~ softmax(logits of the last position)          temperature 1, all tokens

A token is the first whose cumulative probability exceeds a number from [0, 1) that was drawn before. So a window
depends on its own numbers alone. How many others are written beside it, and on which device, only decides how logits
are rounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence, Set

import torch
from torch import Tensor

from mobilequant.models.kv_cache import KVCache
from mobilequant.models.model import Model


@torch.inference_mode()
def write(model: Model, chances: Tensor, openings: Sequence[Iterator[Sequence[int]]], ends: Set[int]) -> Tensor:
    """Windows (B, T) int64, on the CPU, that ``model`` continues from openings.

    Args:
        chances: (B, T) float64 in [0, 1), on the CPU; one for each token that may be drawn.
        openings: for each window tokens that it is given, at least one each time: at its beginning, and again in place
            of each token that is drawn from ``ends``.
        ends: tokens that end a document; they never stand in a window.
    """
    cache = KVCache(model, *chances.shape)
    given = [deque(next(each)) for each in openings]
    written = torch.empty(chances.shape, dtype=torch.int64)
    written[:, 0] = torch.tensor([each.popleft() for each in given])
    for place in range(1, chances.shape[1]):
        logits = cache.logits(model, written[:, place - 1 : place].to(model.device))[:, 0]
        found = draw(logits, chances[:, place].to(model.device)).tolist()
        for row, token in enumerate(found):
            if not given[row] and token in ends:
                given[row].extend(next(openings[row]))
            written[row, place] = given[row].popleft() if given[row] else token
    return written


def draw(logits: Tensor, chances: Tensor) -> Tensor:
    """A token (B,) for each row of logits (B, V), by the inverse of the cumulative softmax at ``chances`` (B,)."""
    cumulative = logits.float().softmax(-1).cumsum(-1, dtype=torch.float64)
    found = torch.searchsorted(cumulative, chances[:, None] * cumulative[:, -1:], right=True)
    return found[:, 0].clamp_max(logits.shape[-1] - 1)
