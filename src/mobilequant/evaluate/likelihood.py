"""How probable a model finds continuations of texts.

Tokenization: context + continuation are encoded *together*, once per continuation, and split behind the longest
beginning that equals the encoding of the context alone. A token that spans the seam counts as continuation, so no
merge of the tokenizer is broken and no character is scored twice. BOS, where given, stands before the context.

Sequences of about the same length run together, filled up at the end, which no token before it sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mobilequant.errors import DataError
from mobilequant.evaluate.batch import batches
from mobilequant.evaluate.score import CHUNK_ELEMENTS, Executor
from mobilequant.pipeline.progress import Track

Encode = Callable[[str], Sequence[int]]  # text → ids, without special tokens


@dataclass(frozen=True)
class Question:
    """Token ids of a continuation and of what stands before it; neither is empty."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    @property
    def read(self) -> tuple[int, ...]:
        """What a model is given: nothing is predicted behind the last token."""
        return (*self.context, *self.continuation[:-1])


@dataclass(frozen=True)
class Likelihood:
    """What a model thinks of a continuation."""

    logprob: float  # Σ log q over its tokens, in nats
    is_greedy: bool  # every token is the model's first choice


def split(encode: Encode, context: str, continuation: str, bos: int | None) -> Question:
    """The question in token ids, BOS first, if any; see the module for where the seam lies.

    Raises:
        DataError: an empty continuation, or nothing before it.
    """
    alone, whole = encode(context), encode(context + continuation)
    seam = next((i for i, (a, b) in enumerate(zip(alone, whole, strict=False)) if a != b), min(len(alone), len(whole)))
    given = (*(() if bos is None else (bos,)), *whole[:seam])
    if not given or seam == len(whole):
        raise DataError(
            f"a request has no tokens before or in its continuation {continuation!r:.60}",
            "Give it a context (or a model with BOS) and a continuation.",
        )
    return Question(given, tuple(whole[seam:]))


def answers(executor: Executor, questions: Sequence[Question], batch_tokens: int, track: Track) -> list[Likelihood]:
    """To each question, in batches of ``batch_tokens`` (``evaluate.batch``).

    Raises:
        DataError: as ``likelihoods``.
    """
    groups = batches([len(question.read) for question in questions], batch_tokens)
    found: dict[int, Likelihood] = {}
    for group in track(groups, "zero-shot", len(groups)):
        found.update(zip(group, likelihoods(executor, [questions[i] for i in group]), strict=True))
    return [found[i] for i in range(len(questions))]


@torch.inference_mode()
def likelihoods(executor: Executor, questions: Sequence[Question]) -> list[Likelihood]:
    """Log-probability of every continuation after its context, from one batch.

    Raises:
        DataError: a context is BOS alone, and the executor's prefix holds it already.
    """
    width = max(len(question.read) for question in questions)
    logits = executor(torch.tensor([_padded(question.read, width) for question in questions]))
    missing = width - logits.shape[1]  # BOS, where the executor's prefix holds it already
    if min(len(question.context) for question in questions) <= missing:
        raise DataError("nothing stands between the prefix and a continuation", "Give every request a context.")
    rows = [
        row * logits.shape[1] + place
        for row, question in enumerate(questions)
        for place in range(len(question.context) - 1 - missing, len(question.read) - missing)
    ]
    targets = [token for question in questions for token in question.continuation]
    logprobs, first_choice = _predicted(logits.flatten(0, 1), rows, targets)
    sizes = [len(question.continuation) for question in questions]
    parts = zip(logprobs.split(sizes), first_choice.split(sizes), strict=True)
    return [Likelihood(float(logprob.sum()), bool(chosen.all())) for logprob, chosen in parts]


def _padded(tokens: Sequence[int], width: int) -> list[int]:
    """Any token will do behind the end."""
    return [*tokens, *[0] * (width - len(tokens))]


def _predicted(logits: Tensor, rows: Sequence[int], targets: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Log-probabilities (float64) of targets in those rows of logits (…, V), and whether each is the first choice."""
    size = max(1, CHUNK_ELEMENTS // logits.shape[1])
    pieces = []
    for row, target in zip(torch.tensor(rows).split(size), torch.tensor(targets).split(size), strict=True):
        chosen, wanted = logits[row.to(logits.device)].float(), target.to(logits.device)
        logprob = chosen.log_softmax(-1).gather(1, wanted[:, None])[:, 0]
        pieces.append((logprob.double().cpu(), (chosen.argmax(-1) == wanted).cpu()))
    logprobs, first_choice = (torch.cat(column) for column in zip(*pieces, strict=True))
    return logprobs, first_choice
