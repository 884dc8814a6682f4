"""What exactly a perplexity was measured on: without this record a perplexity means nothing.

Token ids are cut into windows of ``window`` tokens that do not overlap (stride = window); each window is read alone,
from position 0. The tokens 2 … window of each window are predicted, ``window − 1`` per window, with BOS or without:

    without BOS   input  w1 w2 … w(T−1)        predicted  w2 … wT
    with BOS      input  BOS w1 w2 … w(T−1)    predicted  w2 … wT     (the prediction after BOS is not counted)

so that the same tokens are scored for every model, and the input is never longer than the window.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from mobilequant.errors import DataError


@dataclass(frozen=True)
class Protocol:
    """The record printed and saved beside every score."""

    window: int  # tokens per window
    stride: int  # tokens from one window's start to the next; equal to window
    windows: int
    tokens: int  # tokens read from the text
    predictions: int  # tokens predicted
    bos: int | None  # id placed before each window, None = nothing
    ids_sha256: str  # of the ids of all windows in order, as int32 little endian
    text: str = ""  # name of the text
    text_sha256: str | None = None  # of the whole text, UTF-8


def protocol(windows: Tensor, *, bos: int | None, text: str = "", text_sha256: str | None = None) -> Protocol:
    """The record of scoring ``windows`` (N, T)."""
    count, window = windows.shape
    return Protocol(
        window=window,
        stride=window,
        windows=count,
        tokens=count * window,
        predictions=count * (window - 1),
        bos=bos,
        ids_sha256=ids_sha256(windows),
        text=text,
        text_sha256=text_sha256,
    )


def ids_sha256(ids: Tensor) -> str:
    """sha256 of token ids as int32 little endian, in reading order."""
    return hashlib.sha256(ids.to("cpu", torch.int32).contiguous().numpy().astype("<i4").tobytes()).hexdigest()


def window_count(predictions: int, window: int) -> int:
    """How many windows make that many predictions, ``window − 1`` each: rounded down, but at least one.

    Raises:
        DataError: a window too short to predict anything.
    """
    if window < 2:
        raise DataError(f"a window of {window} tokens predicts nothing", "Use a window of at least 2 tokens.")
    return max(1, predictions // (window - 1))
