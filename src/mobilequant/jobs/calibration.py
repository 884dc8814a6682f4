"""From a recipe's text to the token windows on which statistics are taken, BOS treated as in use and as in scoring."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mobilequant.arch.architecture import Architecture
from mobilequant.data.window import windows
from mobilequant.errors import UsageError
from mobilequant.pipeline.recipe import CalibrationData, Recipe


def calibration_windows(ids: Sequence[int], data: CalibrationData, arch: Architecture) -> Tensor:
    """Windows (N, window) of a tokenized text; where the model's tokenizer puts BOS first, so does every window.

    Raises:
        DataError: the text is too short.
    """
    bos = arch.leading_token
    if bos is None:
        return windows(ids, window=data.window, count=data.count, seed=data.seed)
    body = windows(ids, window=data.window - 1, count=data.count, seed=data.seed)
    return torch.cat((torch.full((len(body), 1), bos), body), dim=1)


def require_room(arch: Architecture, recipe: Recipe) -> None:
    """Refuse a prefix that the model does not know, and windows that do not fit into its context behind a prefix.

    Raises:
        UsageError: names the key of the recipe.
    """
    given, window = recipe.prefix.tokens, recipe.data.window
    unknown = [token for token in given if token >= arch.vocab_size] if given != "auto" else []
    if unknown:
        raise UsageError(
            f"prefix.tokens names the token {unknown[0]}, and the model has only {arch.vocab_size}",
            "Give tokens of this model in prefix.tokens, or let them be found: auto.",
        )
    room = arch.max_context - (recipe.prefix.max_tokens if given == "auto" else len(given))
    if window > room:
        raise UsageError(
            f"calibration windows of {window} tokens are longer than this model allows: a context of "
            f"{arch.max_context} with the prefix in it",
            f"Start a recipe of your own with `mobilequant recipes NAME > mine.yaml`, and set data.window to {room} "
            "or less there.",
        )
