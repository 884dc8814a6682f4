"""Zero-shot accuracy of several models on several tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mobilequant.data.task import Request
from mobilequant.evaluate.score import Executor
from mobilequant.evaluate.task import score_choices, score_last_word
from mobilequant.pipeline.progress import Track, silent

LAST_WORD = "lambada"  # the one task that asks for a word instead of offering choices


def zero_shot(
    executors: Mapping[str, Executor],
    tasks: Mapping[str, Sequence[Request]],
    encode: Callable[[str], Sequence[int]],
    *,
    bos: int | None,
    documents: int,
    track: Track = silent,
) -> dict[str, dict[str, dict[str, float]]]:
    """By task and executor: accuracy on the first ``documents`` requests, with 95 % intervals (``evaluate.task``)."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for task, requests in tasks.items():
        score = score_last_word if task == LAST_WORD else score_choices
        found[task] = {
            name: score(executor, requests, encode, bos=bos, limit=documents, track=track)
            for name, executor in executors.items()
        }
    return found
