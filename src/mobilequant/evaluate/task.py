"""Zero-shot accuracy by likelihood: the answer of a model is the choice whose continuation it finds most probable.

    acc        largest Σ log q(token) over the continuation
    acc_norm   largest Σ log q(token) / bytes, bytes = UTF-8 length of the continuation without its leading space

Tokenization: context + continuation are encoded *together*, once per continuation, and split behind the longest
beginning that equals the encoding of the context alone. A token that spans the seam counts as continuation, so no
merge of the tokenizer is broken and no character is scored twice. BOS, where given, stands before the context.

Requests are taken in the order in which they come; ``limit`` takes the first ones. Nothing is truncated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from mobilequant.data.task import Request
from mobilequant.errors import DataError
from mobilequant.evaluate.interval import wilson
from mobilequant.evaluate.score import Executor
from mobilequant.pipeline.progress import Track, silent

Encode = Callable[[str], Sequence[int]]  # text → ids, without special tokens


@dataclass(frozen=True)
class Likelihood:
    """What a model thinks of a continuation."""

    logprob: float  # Σ log q over its tokens, in nats
    is_greedy: bool  # every token is the model's first choice


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
    track: Track = silent,
) -> Outcome:
    """Accuracy on multiple choice: acc, acc_norm, their standard errors and 95 % intervals (see ``_share``), and docs.

    Raises:
        DataError: no requests, or a request without anything to condition on.
    """
    chosen = _first(requests, limit)
    correct, correct_norm = [], []
    for request in track(chosen, "zero-shot", len(chosen)):
        logprobs = [
            likelihood(executor, *split(encode, context, continuation, bos)).logprob
            for context, continuation in zip(request.contexts, request.continuations, strict=True)
        ]
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
    track: Track = silent,
) -> Outcome:
    """LAMBADA, one choice a request: acc = greedy decoding gives the last word; ppl = exp of the mean −log q(word).

    Raises:
        DataError: no requests, or a request without anything to condition on.
    """
    chosen = _first(requests, limit)
    found = [
        likelihood(executor, *split(encode, request.contexts[0], request.continuations[0], bos))
        for request in track(chosen, "last word", len(chosen))
    ]
    nll = -math.fsum(each.logprob for each in found) / len(found)
    correct = tuple(each.is_greedy for each in found)
    return Outcome({**_share("acc", correct), "ppl": math.exp(nll), "docs": len(found)}, correct)


def split(encode: Encode, context: str, continuation: str, bos: int | None) -> tuple[list[int], list[int]]:
    """Ids of the context (BOS first, if any) and of the continuation; see the module for where the seam lies.

    Raises:
        DataError: an empty continuation, or nothing before it.
    """
    alone, whole = list(encode(context)), list(encode(context + continuation))
    seam = next((i for i, (a, b) in enumerate(zip(alone, whole, strict=False)) if a != b), min(len(alone), len(whole)))
    given = ([] if bos is None else [bos]) + whole[:seam]
    if not given or seam == len(whole):
        raise DataError(
            f"a request has no tokens before or in its continuation {continuation!r:.60}",
            "Give it a context (or a model with BOS) and a continuation.",
        )
    return given, whole[seam:]


@torch.inference_mode()
def likelihood(executor: Executor, context: Sequence[int], continuation: Sequence[int]) -> Likelihood:
    """Log-probability of ``continuation`` after ``context``, both token ids, neither empty."""
    tokens = torch.tensor([*context, *continuation[:-1]])
    targets = torch.tensor(continuation)
    logits = executor(tokens)[-len(targets) :].float().cpu()
    logprobs = logits.log_softmax(-1).gather(1, targets[:, None])
    return Likelihood(float(logprobs.double().sum()), bool((logits.argmax(-1) == targets).all()))


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
