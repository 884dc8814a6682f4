"""Text from a model, token by token; whoever computes the logits, the same integers give the same text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mobilequant.engine.sampler import Sampler, Sampling
from mobilequant.errors import UsageError

if TYPE_CHECKING:
    from mobilequant.engine.vocabulary import Vocabulary
    from mobilequant.models.tokenizer import Tokenizer


class Reader(Protocol):
    """A sequence that a model has read: the engine's session, or the reference interpreter with its state."""

    @property
    def room(self) -> int:
        """How many more tokens can be read."""

    def run(self, tokens: Sequence[int], *, only_last: bool = False) -> NDArray[np.int16]:
        """Read tokens (T,) behind those before; logits (T, V), or (1, V) of the last one."""

    def trace(self, tokens: Sequence[int]) -> list[tuple[str, NDArray[np.integer]]]:
        """Read tokens (T,) behind those before; the codes of every tensor of the graph, in running order, of a model
        that was loaded for it."""


class RunningModel(Protocol):
    """A package that runs, in the engine or in the reference interpreter."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Between text and token ids."""

    @property
    def logits_scale(self) -> float:
        """Real logits are the integer ones times this."""

    def session(self, capacity: int | None = None) -> Reader:
        """An empty sequence with room for ``capacity`` tokens, or for the whole context."""


def generate(model: RunningModel, prompt: str, sampling: Sampling, max_new_tokens: int) -> Iterator[str]:
    """Yield the continuation of ``prompt`` piece by piece; ends at the end-of-text token or when the context is full.

    Raises:
        PackageError: the package has no tokenizer, or it is damaged.
        UsageError: the prompt is empty, no Unicode, or longer than the context, or nothing is to be generated.
    """
    require_limit(max_new_tokens)
    vocabulary = model.vocabulary
    ids = vocabulary.encode(prompt)
    reader = model.session(len(ids) + max_new_tokens)
    if not ids:
        raise UsageError("the prompt is empty", "Give some text with --prompt.")
    if len(ids) > reader.room:
        raise UsageError(
            f"the prompt has {len(ids)} tokens, and the context only holds {reader.room}", "Give a shorter one."
        )
    tokens = new_tokens(reader, ids, Sampler(sampling, model.logits_scale), vocabulary.stop, limit=max_new_tokens)
    return texts(tokens, vocabulary.tokenizer)


def new_tokens(
    reader: Reader,
    prompt: Sequence[int],
    sampler: Sampler,
    stop: Collection[int],
    *,
    limit: int,
    before: Sequence[int] = (),
) -> Iterator[int]:
    """Tokens behind ``prompt`` (at least one), which stands behind ``before``, which the reader has read already.

    Ends with a token of ``stop``, which it does not yield, after ``limit`` tokens, or when there is no more room. Each
    step reads only the last token, since the reader holds the rest.
    """
    before, feed = [*before, *prompt], list(prompt)
    for _ in range(limit):
        if len(feed) > reader.room:
            return
        token = sampler.choose(reader.run(feed, only_last=True)[-1], before)
        if token in stop:
            return
        yield token
        before.append(token)
        feed = [token]


def texts(tokens: Iterator[int], tokenizer: Tokenizer) -> Iterator[str]:
    """The text of tokens, piece by piece as soon as its characters are whole."""
    stream = tokenizer.stream()
    for token in tokens:
        if piece := stream.push(token):
            yield piece
    if rest := stream.finish():
        yield rest


def require_limit(max_new_tokens: int) -> None:
    """Refuse to generate nothing.

    Raises:
        UsageError: fewer than one token is asked for.
    """
    if max_new_tokens < 1:
        raise UsageError(f"{max_new_tokens} new tokens are no text", "Use --max-new-tokens of 1 or more.")
