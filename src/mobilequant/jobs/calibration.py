"""From a recipe's text to the token windows on which statistics are taken, BOS treated as in use and as in scoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mobilequant.arch.architecture import Architecture
from mobilequant.data.text import Text
from mobilequant.data.window import windows
from mobilequant.errors import UsageError
from mobilequant.models.model import Model
from mobilequant.models.tokenizer import Tokenizer
from mobilequant.pipeline.recipe import CalibrationData


@dataclass(frozen=True)
class Sample:
    """Windows (N, T) and the text from which they were drawn."""

    text: Text
    windows: Tensor

    def origin(self) -> dict[str, Any]:
        """As a manifest names it."""
        return {"text": self.text.name, "sha256": self.text.sha256}


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


def tokenizer_of(model: Model) -> Tokenizer:
    """The tokenizer that came with a model. Raises UsageError when there is none."""
    if model.tokenizer_dir is None:
        raise UsageError(
            f"{model.source or 'the model'} has no tokenizer", "Put its tokenizer.json into the model's folder."
        )
    return Tokenizer.load(model.tokenizer_dir, num_rows=model.arch.vocab_size)
