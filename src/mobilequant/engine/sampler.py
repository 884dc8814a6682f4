"""How the next token is chosen from integer logits: in integers, in C++, the same on every machine for one seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobilequant.engine import _core
from mobilequant.engine.failure import translated
from mobilequant.errors import UsageError

DEFAULT_TEMPERATURE = 0.8
_HIGHEST_TEMPERATURE = 100
_LOWEST_PENALTY, _HIGHEST_PENALTY = 0.01, 100
_LARGEST_SEED = 2**64 - 1
_LARGEST_TOP_K = 2**31


@dataclass(frozen=True)
class Sampling:
    """What may be chosen, and how surprising it is.

    Attributes:
        temperature: above 0 and at most 100; higher is more surprising.
        top_k: only the k likeliest tokens; 0 stands for all.
        top_p: of these, the fewest that hold this share of the probability; above 0 and at most 1.
        repetition_penalty: 0.01 to 100; logits of tokens that stand already are divided by it where they are positive,
            multiplied where they are negative, so that above 1 they become less likely.
        greedy: always the likeliest token; temperature, top_k, top_p and seed then change nothing.
        seed: 0 to 2^64 − 1.

    Raises:
        UsageError: a number outside these limits, or none at all (NaN).
    """

    temperature: float = DEFAULT_TEMPERATURE
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    greedy: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _demand(0 < self.temperature <= _HIGHEST_TEMPERATURE, "temperature", self.temperature, "above 0, at most 100")
        _demand(isinstance(self.top_k, int) and self.top_k >= 0, "top_k", self.top_k, "of 0 (all tokens) or more")
        _demand(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1")
        _demand(
            _LOWEST_PENALTY <= self.repetition_penalty <= _HIGHEST_PENALTY,
            "repetition_penalty",
            self.repetition_penalty,
            "of 0.01 to 100; 1 changes nothing",
        )
        whole = isinstance(self.seed, int) and 0 <= self.seed <= _LARGEST_SEED
        _demand(whole, "seed", self.seed, "of 0 to 2^64 − 1")


class Sampler:
    """Chooses token after token; its generator is its own and begins with the seed."""

    def __init__(self, sampling: Sampling, logits_scale: float) -> None:
        _demand(0 < logits_scale < math.inf, "logits_scale", logits_scale, "above 0")
        self._penalizes = sampling.repetition_penalty != 1
        with translated("sampling", "Use other numbers."):
            self._core = _core.Sampler(
                logits_scale,
                0.0 if sampling.greedy else sampling.temperature,
                min(sampling.top_k, _LARGEST_TOP_K),
                sampling.top_p,
                sampling.repetition_penalty,
                sampling.seed,
            )

    def choose(self, logits: NDArray[np.int16], before: Sequence[int]) -> int:
        """The token behind ``before`` (only the repetition penalty looks at it) for logits (V,); the first of equals.

        Raises:
            UsageError: there are no logits, or a token stands before that has none.
        """
        with translated("sampling", "Give the logits of one position, and tokens of the same vocabulary."):
            seen = before if self._penalizes else ()  # a long list takes as long to hand over as a choice
            return self._core.choose(np.ascontiguousarray(logits), np.asarray(seen, dtype=np.int32))


def _demand(holds: bool, name: str, value: object, valid: str) -> None:
    if not holds:
        raise UsageError(f"{name} is {value}, which cannot be meant", f"Use a {name} {valid}.")
