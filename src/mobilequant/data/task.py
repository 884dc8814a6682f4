"""Zero-shot tasks as lists of requests: which continuation of a context does the model find most likely?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mobilequant.data.corpus import request_rows
from mobilequant.errors import UsageError

VARIANTS = {
    "piqa": "piqa/rc_0shot",
    "arc_easy": "arc_easy/rc_0shot",
    "hellaswag": "hellaswag/rc_0shot",
    "winogrande": "winogrande/rc_0shot",
    "lambada": "lambada/bpb_0shot",
}

# The package repeats every document without its question under an identifier from here on (for PMI scoring).
UNCONDITIONED = 1_000_000


@dataclass(frozen=True)
class Request:
    """One question. ``label`` is the index of the right choice.

    Choice i is the text ``continuations[i]`` after ``contexts[i]``. The contexts are equal in all tasks but
    WinoGrande, where they hold the candidate and the continuations are equal. LAMBADA has one choice, the last word:
    it counts as right when greedy decoding gives it.
    """

    doc_id: int
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    label: int


def load_task(name: str) -> list[Request]:
    """All requests of a task, in the order of its documents. Raises UsageError for unknown names, DataError offline."""
    if name not in VARIANTS:
        raise UsageError(f"There is no task {name!r}.", f"Tasks: {', '.join(VARIANTS)}.")
    rows = (row for row in request_rows(VARIANTS[name]) if row["doc_id"] < UNCONDITIONED)
    return [_request(doc_id, choices) for doc_id, choices in groupby(rows, key=lambda row: int(row["doc_id"]))]


def _request(doc_id: int, rows: Iterable[dict[str, Any]]) -> Request:
    choices = sorted(rows, key=lambda row: int(row["idx"]))
    label = choices[0]["label"]
    return Request(
        doc_id=doc_id,
        contexts=tuple(row["request"]["context"] for row in choices),
        continuations=tuple(row["request"]["continuation"] for row in choices),
        label=label if isinstance(label, int) else 0,
    )
