"""Text for calibration and scoring, from a built-in corpus, a local file or a hub data set, always with its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mobilequant.data import corpus, hub_dataset, text_file
from mobilequant.data.broad import ample, broad
from mobilequant.data.brown import brown
from mobilequant.errors import DataError

SEPARATOR = "\n\n"

CORPORA: dict[str, Callable[[], list[str]]] = {
    "sotu": corpus.sotu,
    "wiki_squad": corpus.wiki_squad,
    "brown": brown,
    "coqa_stories": corpus.coqa_stories,
    "lambada": corpus.lambada,
    "mixed": corpus.mixed,
    "broad": broad,
    "ample": ample,
}


@dataclass(frozen=True)
class Text:
    """A text as it is tokenized. ``content`` is the parts (documents) joined by an empty line."""

    name: str
    content: str
    sha256: str  # of content as UTF-8
    parts: tuple[str, ...]


def make_text(name: str, parts: Iterable[str]) -> Text:
    """A text out of its documents. Raises DataError when only white space is in them, or what is no Unicode."""
    documents = tuple(parts)
    content = SEPARATOR.join(documents)
    if not content.strip():
        raise DataError(f"The text {name} is empty.", "Choose another file, or another field of it.")
    try:
        encoded = content.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"The text {name} holds half a character at position {error.start}.", "Remove it: it is no valid Unicode."
        ) from error
    return Text(name, content, hashlib.sha256(encoded).hexdigest(), documents)


def load_text(name_or_path: str | Path) -> Text:
    """A text by its name.

    One of CORPORA (built-in), the path of a .txt or .jsonl file, or ``hub:<data set>[:<file pattern>]``. Raises
    DataError when it cannot be had.
    """
    name = str(name_or_path)
    if name in CORPORA:
        return make_text(name, CORPORA[name]())
    if name.startswith("hub:"):
        return make_text(name, hub_dataset.documents(name.removeprefix("hub:")))
    if Path(name).is_file():
        return make_text(name, text_file.documents(Path(name)))
    raise DataError(
        f"There is no text {name!r}: neither a built-in name nor a file.",
        f"Built-in: {', '.join(CORPORA)}. Or give a .txt or .jsonl file, or hub:<data set>.",
    )
