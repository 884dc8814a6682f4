"""Text from the integer graph, token by token: the graph gives integer logits, and this picks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from mobilequant.errors import UsageError
from mobilequant.integer.interpreter import Interpreter
from mobilequant.jobs.device import require_device
from mobilequant.jobs.package import Package, open_package
from mobilequant.models.tokenizer import Tokenizer

Picker = Callable[[Tensor], int]


def generate(
    package: str | Path,
    prompt: str,
    *,
    max_new_tokens: int = 64,
    greedy: bool = False,
    temperature: float = 0.8,
    seed: int = 0,
    device: str = "cpu",
) -> Iterator[str]:
    """Yield the continuation of ``prompt`` piece by piece; ends at the end-of-text token or when the context is full.

    Args:
        greedy: always the most likely token (no real number is involved); otherwise drawn at ``temperature``.

    Raises:
        PackageError: the package is missing or damaged.
        UsageError: the prompt is empty, no Unicode, or longer than the context, or an option is out of range.
    """
    if max_new_tokens < 1 or not 0 < temperature < math.inf:
        raise UsageError("nothing can be generated", "Use --max-new-tokens of 1 or more and a temperature above 0.")
    _require_unicode(prompt)
    require_device(device)
    opened = open_package(Path(package))
    tokenizer = Tokenizer.load(opened.folder, num_rows=opened.graph.vocab_size)
    interpreter = Interpreter(opened.graph, device)
    pick = most_likely if greedy else sampler(interpreter.logits_scale, temperature, seed)
    tokens = new_tokens(interpreter, prompt_tokens(opened, tokenizer, prompt), pick)
    return _texts(tokens, tokenizer, max_new_tokens)


def prompt_tokens(package: Package, tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The ids that the graph is fed: BOS where the model wants it and the constant prefix does not hold it already.

    Raises:
        UsageError: there is nothing to continue, or it does not fit the context.
    """
    bos = package.about.leading_token
    held = package.graph.prefix_tokens[:1] == (bos,)
    ids = ([] if bos is None or held else [bos]) + tokenizer.encode(prompt)
    if not ids:
        raise UsageError("the prompt is empty", "Give some text with --prompt.")
    room = package.graph.context - package.graph.num_prefix
    if len(ids) > room:
        raise UsageError(f"the prompt has {len(ids)} tokens, and the context only holds {room}", "Give a shorter one.")
    return ids


def _require_unicode(prompt: str) -> None:
    """Bytes of a command line that are no text arrive as halves of characters."""
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the prompt is no valid Unicode", "Give it as UTF-8.") from error


def new_tokens(interpreter: Interpreter, prompt: list[int], pick: Picker) -> Iterator[int]:
    """Token after token; each step feeds only the last one, since the state holds the rest."""
    state, feed = interpreter.state(), prompt
    while state.position + len(feed) <= interpreter.graph.context:
        logits = interpreter.run(torch.tensor(feed), state)
        feed = [pick(logits[-1])]
        yield feed[0]


def most_likely(logits: Tensor) -> int:
    """The token with the largest integer logit; the first of equals."""
    return int(logits.argmax())


def sampler(logits_scale: float, temperature: float, seed: int) -> Picker:
    """A picker that draws from the softmax of the real logits."""
    generator = torch.Generator().manual_seed(seed)

    def draw(logits: Tensor) -> int:
        probabilities = (logits.cpu().double() * (logits_scale / temperature)).softmax(-1)
        return int(torch.multinomial(probabilities, 1, generator=generator))

    return draw


def _texts(tokens: Iterator[int], tokenizer: Tokenizer, limit: int) -> Iterator[str]:
    stream = tokenizer.stream()
    for number, token in enumerate(tokens, start=1):
        if token == tokenizer.eos:
            break
        if piece := stream.push(token):
            yield piece
        if number == limit:
            break
    if rest := stream.finish():
        yield rest
