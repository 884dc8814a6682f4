"""Zero-shot accuracy by likelihood: the answer of a model is the choice whose continuation it finds most probable.

    acc        largest Σ log q(token) over the continuation
    acc_norm   largest Σ log q(token) / bytes, bytes = UTF-8 length of the continuation without its leading space

Requests are taken in the order in which they come; ``limit`` takes the first ones. Nothing is truncated.
``evaluate.likelihood`` says what is predicted, ``evaluate.batch`` how many sequences run together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from mobilequant.data.task import Request
from mobilequant.errors import DataError
from mobilequant.evaluate.interval import wilson
from mobilequant.evaluate.likelihood import Encode, answers, split
from mobilequant.evaluate.score import Executor
from mobilequant.pipeline.progress import Track, silent


@dataclass(frozen=True)
class Outcome:
    """How a model did on a task; ``correct`` says it by document, so that two models can be compared in pairs."""

    measures: dict[str, float]
    correct: tuple[bool, ...]  # by acc


def score_choices(
    executor: Executor,
    requests: Sequence[Request],
    encode: Encode,
    *,
    bos: int | None,
    limit: int | None = None,
    batch_tokens: int = 1,
    track: Track = silent,
) -> Outcome:
    """Accuracy on multiple choice: acc, acc_norm, their standard errors and 95 % intervals (see ``_share``), and docs.

    Raises:
        DataError: no requests, or a request without anything to condition on.
    """
    chosen = _first(requests, limit)
    questions = [
        split(encode, context, continuation, bos)
        for request in chosen
        for context, continuation in zip(request.contexts, request.continuations, strict=True)
    ]
    found = iter(answers(executor, questions, batch_tokens, track))
    correct, correct_norm = [], []
    for request in chosen:
        logprobs = [answer.logprob for answer in islice(found, len(request.contexts))]
        normed = [
            logprob / answer_bytes(continuation)
            for logprob, continuation in zip(logprobs, request.continuations, strict=True)
        ]
        correct.append(_argmax(logprobs) == request.label)
        correct_norm.append(_argmax(normed) == request.label)
    return Outcome(
        {**_share("acc", correct), **_share("acc_norm", correct_norm), "docs": len(chosen)},
        tuple(correct),
    )


def score_last_word(
    executor: Executor,
    requests: Sequence[Request],
    encode: Encode,
    *,
    bos: int | None,
    limit: int | None = None,
    batch_tokens: int = 1,
    track: Track = silent,
) -> Outcome:
    """LAMBADA, one choice a request: acc = greedy decoding gives the last word; ppl = exp of the mean −log q(word).

    Raises:
        DataError: no requests, or a request without anything to condition on.
    """
    chosen = _first(requests, limit)
    questions = [split(encode, request.contexts[0], request.continuations[0], bos) for request in chosen]
    found = answers(executor, questions, batch_tokens, track)
    nll = -math.fsum(each.logprob for each in found) / len(found)
    correct = tuple(each.is_greedy for each in found)
    return Outcome({**_share("acc", correct), "ppl": math.exp(nll), "docs": len(found)}, correct)


def answer_bytes(continuation: str) -> int:
    """The length that ``acc_norm`` divides by, at least 1."""
    return max(1, len(continuation.lstrip().encode()))


def _first(requests: Sequence[Request], limit: int | None) -> Sequence[Request]:
    chosen = requests[:limit]
    if not chosen:
        raise DataError("there are no requests to score", "Check the task's name and the limit on documents.")
    return chosen


def _argmax(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _share(name: str, correct: Sequence[bool]) -> dict[str, float]:
    """``name``: the share of true ones; its standard error ``_se``; Wilson's 95 % interval ``_low`` and ``_high``."""
    share = sum(correct) / len(correct)
    low, high = wilson(sum(correct), len(correct))
    error = math.sqrt(share * (1 - share) / len(correct))
    return {name: share, f"{name}_se": error, f"{name}_low": low, f"{name}_high": high}
