"""How a row is made. What rows of one model share is computed once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mobilequant.arch.pair import Kind
from mobilequant.errors import TrainingError
from mobilequant.methods.mobilequant.faithful import last_residuals, published_schedule
from mobilequant.methods.omniquant.method import published_schedule as omniquant_schedule
from mobilequant.models.model import Model
from mobilequant.pipeline.method import Need
from mobilequant.solvers.block_wise import PUBLISHED, train_blocks
from mobilequant.solvers.end_to_end import match_hidden
from mobilequant.solvers.student import Student
from published.row import Row
from published.simulation import FORMATS, Start, magnitudes, measured, perplexities, smooth, student


@dataclass(frozen=True)
class Windows:
    """Tokens (N, T) for ranges, training and scores, on the device of the model."""

    ranges: Tensor
    training: Tensor
    scored: Tensor


class Bench:
    """One float model with its windows."""

    def __init__(self, model: Model, windows: Windows) -> None:
        self.model, self.windows = model, windows
        self._starts: dict[tuple[Kind, ...], Start] = {}

    @cached_property
    def hidden(self) -> Tensor:
        """Float residuals (N, T, C) of the training windows behind the last block; smoothing does not change them."""
        return last_residuals(self.model, None, self.windows.training)

    def start(self, pairs: tuple[Kind, ...]) -> Start:
        """The model with these pairs smoothed, and its ranges."""
        if pairs not in self._starts:
            smoothed = smooth(self.model, self._magnitudes, pairs) if pairs else self.model
            self._starts[pairs] = measured(smoothed, self.windows.ranges)
        return self._starts[pairs]

    @cached_property
    def _magnitudes(self) -> Mapping[Need, Any]:
        return magnitudes(self.model, self.windows.ranges)


def make(row: Row, bench: Bench, seed: int) -> dict[str, Any]:
    """Perplexities, training losses, seconds of training; or why training had to stop. ``seed`` orders the windows."""
    if row.objective == "float":
        return perplexities(bench.model, None, bench.windows.scored)
    start = bench.start(row.pairs)
    rounded = student(start, row.setting, row.learned)
    if not row.trained:
        return perplexities(start.model, rounded, bench.windows.scored)
    train = _block_by_block if row.objective == "block-wise" else _end_to_end
    begun = time.perf_counter()
    try:
        losses = train(row, bench, rounded, torch.Generator().manual_seed(seed))
    except TrainingError as error:
        return {"failed": error.message}
    seconds = time.perf_counter() - begun
    found = {"loss_first": losses[0], "loss_last": losses[-1], "seconds": seconds, "steps": row.steps}
    return {**perplexities(start.model, rounded, bench.windows.scored), **found}


def _end_to_end(row: Row, bench: Bench, rounded: Student, order: torch.Generator) -> list[float]:
    """The loss of each epoch."""
    num_bits, symmetric = FORMATS[row.setting]
    schedule = published_schedule(row.epochs, num_bits, symmetric=symmetric)
    tokens, hidden = bench.windows.training[: row.windows], bench.hidden[: row.windows]
    return match_hidden(rounded, tokens, hidden, schedule, order=order).training


def _block_by_block(row: Row, bench: Bench, rounded: Student, order: torch.Generator) -> list[float]:
    """The loss of each epoch in the last block, whose target is that of end-to-end training."""
    tokens, schedule = bench.windows.training[: row.windows], omniquant_schedule(row.epochs)
    return train_blocks(rounded, rounded.model, None, tokens, schedule, order, loss=PUBLISHED)[-1].training
