"""The windows of the published run: speeches for ranges and training, ``wiki_squad`` for scores."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from mobilequant.data.corpus import sotu
from mobilequant.data.text import load_text
from mobilequant.data.window import windows
from mobilequant.models.tokenizer import Tokenizer

SEED = 1337
TRAINING_WINDOWS = 128
RANGE_WINDOWS = 512
SCORED_LENGTH = 512


def calibration(
    tokenizer: Tokenizer, length: int, num_training: int = TRAINING_WINDOWS, bos: int | None = None
) -> tuple[Tensor, Tensor]:
    """Windows (N, length) for ranges and for training; the first 128 for training are always the published ones."""
    order = list(range(249))
    random.Random(SEED).shuffle(order)
    documents = sotu()
    speeches = [documents[i] for i in order]
    own = length - (bos is not None)
    pool = [window for speech in speeches for window in full_windows(tokenizer.encode(speech), own)]
    random.Random(SEED).shuffle(pool)
    ids = tokenizer.encode("\n\n".join(speeches[:128]))
    draw = random.Random(SEED)
    starts = [draw.randint(0, len(ids) - own - 1) for _ in range(num_training)]
    training = [ids[i : i + own] for i in starts]
    return opened(torch.tensor(pool[:RANGE_WINDOWS]), bos), opened(torch.tensor(training), bos)


def scored(tokenizer: Tokenizer, count: int | None = None, bos: int | None = None) -> Tensor:
    """Windows (N, 512) of ``wiki_squad``, the first ``count`` or all."""
    ids = tokenizer.encode(load_text("wiki_squad").content)
    return opened(windows(ids, window=SCORED_LENGTH - (bos is not None), count=count, seed=None), bos)


def full_windows(ids: list[int], length: int) -> list[list[int]]:
    """What is left at the end is dropped."""
    return [ids[i : i + length] for i in range(0, len(ids) - length + 1, length)]


def opened(body: Tensor, bos: int | None) -> Tensor:
    """Windows (N, T) with the first token that the model's family wants, if it wants one."""
    return body if bos is None else torch.cat((torch.full((len(body), 1), bos), body), dim=1)
