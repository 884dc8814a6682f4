"""From a recipe's text to the token windows on which statistics are taken, BOS treated as in use and as in scoring."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mobilequant.arch.architecture import Architecture
from mobilequant.data.window import windows
from mobilequant.pipeline.recipe import CalibrationData


def calibration_windows(ids: Sequence[int], data: CalibrationData, arch: Architecture) -> Tensor:
    """Windows (N, window) of a tokenized text; where the model's tokenizer puts BOS first, so does every window.

    Raises:
        DataError: the text is too short.
    """
    bos = leading_token(arch)
    if bos is None:
        return windows(ids, window=data.window, count=data.count, seed=data.seed)
    body = windows(ids, window=data.window - 1, count=data.count, seed=data.seed)
    return torch.cat((torch.full((len(body), 1), bos), body), dim=1)


def leading_token(arch: Architecture) -> int | None:
    """The BOS token that goes before every text of this model, or None."""
    return arch.bos_token if arch.add_bos else None


def after_prefix(tokens: Tensor, prefix: Sequence[int], bos: int | None) -> Tensor:
    """Tokens (…, T) as they follow a constant prefix: a BOS that the prefix already holds is not given twice."""
    repeats = bos is not None and len(prefix) > 0 and prefix[0] == bos and bool((tokens[..., 0] == bos).all())
    return tokens[..., 1:] if repeats else tokens
