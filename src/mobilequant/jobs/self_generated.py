"""Training text that the float model writes itself (LLM-QAT, arXiv 2305.17888, §2.1).

    window   =  (BOS) opening · drawn … drawn · separator · opening · drawn …
                                              ╰ where the model ended a document

An opening is 1 to 16 tokens from a random place of the text ``broad``, so that the windows are of all its kinds. The
windows are written when a run has begun, and kept batch by batch in its work folder. Processes that share the run write
a batch each at a time.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mobilequant.data.text import SEPARATOR, Text, load_text
from mobilequant.jobs.calibration import Sample, tokenizer_of
from mobilequant.jobs.writing_plan import windows_at_once
from mobilequant.models.model import Model
from mobilequant.models.out_of_memory import naming
from mobilequant.models.sampler import write
from mobilequant.pipeline import parallel
from mobilequant.pipeline.checkpoint import Checkpoint, OfFirst
from mobilequant.pipeline.method import Result
from mobilequant.pipeline.progress import Track, silent
from mobilequant.pipeline.recipe import SELF_GENERATED, CalibrationData

OPENINGS = "broad"
_LONGEST_OPENING = 16
_STEP, _WINDOWS = "training text", "windows"
_REMEDY = "Make training.window of the recipe smaller, or use --device cpu."


@dataclass(frozen=True)
class Written(Sample):
    """Windows (N, T) that the model wrote; ``text`` is where their openings come from."""

    def origin(self) -> dict[str, Any]:
        """As a manifest names it: the hash is that of the token ids, as int32 little-endian."""
        ids = self.windows.cpu().to(torch.int32).numpy().astype("<i4")
        return {
            "text": SELF_GENERATED,
            "sha256": hashlib.sha256(ids.tobytes()).hexdigest(),
            "openings": super().origin(),
        }


@dataclass(frozen=True)
class SelfGenerated:
    """Windows that are still to be written, all that decides them but the model.

    text: where openings come from, and ``ids``, its tokens. ends: tokens that are no text, so that a document ends
    with them. leading: what every window begins with.
    """

    data: CalibrationData
    text: Text
    ids: Sequence[int]
    separator: Sequence[int]
    ends: frozenset[int]
    leading: int | None

    def sample(self, model: Model, checkpoint: Checkpoint, track: Track = silent) -> Written:
        """The windows, on the device of ``model``; those that the checkpoint holds are not written again.

        Raises:
            ResourceError: the memory of a GPU does not suffice.
        """
        kept, processes = OfFirst(checkpoint), parallel.world_size()
        batches = self._batches(windows_at_once(model.arch, self.data.window, model.device.type))
        found = {batch: kept.load(_STEP, _unit(batch)) for batch in batches}
        missing = [batch for batch in batches if found[batch] is None]
        rounds = [missing[first : first + processes] for first in range(0, len(missing), processes)]
        for together in track(rounds, "writing training text", len(rounds)):
            own = [self._written(model, batch) for batch in parallel.share(together)]
            everyone = [result for part in parallel.from_each(own) for result in part]
            for batch, result in zip(together, everyone, strict=True):
                kept.save(_STEP, _unit(batch), result)
                found[batch] = result
        windows = torch.cat([result.tensors[_WINDOWS].cpu() for result in found.values() if result is not None])
        return Written(self.text, windows.long().to(model.device))

    def _batches(self, size: int) -> list[range]:
        numbers = range(self.data.count)
        return [numbers[first : first + size] for first in range(0, len(numbers), size)]

    def _written(self, model: Model, batch: range) -> Result:
        chances = torch.tensor([self._chances(number) for number in batch], dtype=torch.float64)
        openings = [self._openings(number) for number in batch]
        with naming("writing training text", _REMEDY):
            windows = write(model, chances, openings, self.ends)
        return Result(tensors={_WINDOWS: windows.to(torch.int32)})

    def _chances(self, number: int) -> list[float]:
        """A number in [0, 1) for each token of a window."""
        generator = random.Random(f"tokens of window {number}, seed {self.data.seed}")
        return [generator.random() for _ in range(self.data.window)]

    def _openings(self, number: int) -> Iterator[list[int]]:
        """What a window begins with, then what follows each document that ends in it."""
        generator = random.Random(f"openings of window {number}, seed {self.data.seed}")
        before = [] if self.leading is None else [self.leading]
        while True:
            length = generator.randint(1, min(_LONGEST_OPENING, len(self.ids)))
            start = generator.randint(0, len(self.ids) - length)
            yield [*before, *self.ids[start : start + length]]
            before = list(self.separator)


def self_generated(model: Model, data: CalibrationData) -> SelfGenerated:
    """Get ready to write what ``data`` asks for: openings and end marks in the tokens of ``model``.

    Raises:
        UsageError: the model has no tokenizer.
        DataError: the text of the openings cannot be had.
    """
    text, tokenizer = load_text(OPENINGS), tokenizer_of(model)
    ids, separator = tokenizer.encode(text.content), tokenizer.encode(SEPARATOR)
    return SelfGenerated(data, text, ids, separator, tokenizer.special, model.arch.leading_token)


def _unit(batch: range) -> str:
    return f"windows {batch[0]} to {batch[-1]}"
