"""The Brown corpus as running text: tags off, quotation marks and punctuation back at their words."""

from __future__ import annotations

import re

from mobilequant.data import pins
from mobilequant.data.package import fetch
from mobilequant.data.tarball import read_files

_SAMPLE = re.compile(r"package/c[a-r][0-9]{2}")
_UNPACKED_LIMIT_BYTES = 1 << 24  # the package has 10.4 MB

# The corpus writes the mark that ends a question, an exclamation or a clause twice: "Why ? ?".
_TWICE = re.compile(r"(?<= ([;?!])) \1(?= |$)")
_BEFORE = re.compile(r" ([.,;:?!)\]]+)(?= |$|[\"')\]])")
_AFTER = re.compile(r"([(\[]) ")


def brown() -> list[str]:
    """500 samples of American prose printed in 1961, 2,000 words each: news, essays, learned, fiction. 6.0 MB."""
    samples = read_files(fetch(pins.BROWN), _SAMPLE, limit_bytes=_UNPACKED_LIMIT_BYTES)
    return [prose(samples[name].decode("ascii", errors="replace")) for name in sorted(samples)]


def prose(tagged: str) -> str:
    """Running text of a tagged sample, ``The/at jury/nn said/vbd ./.`` → ``The jury said.``

    A line is a sentence, and a tab begins a paragraph; paragraphs are parted by an empty line, sentences by a space.
    Opening and closing marks are told apart, because the corpus writes quotations as `` and ''.
    """
    paragraphs: list[list[str]] = []
    for line in tagged.splitlines():
        if line.startswith("\t") or not paragraphs:
            paragraphs.append([])
        paragraphs[-1].extend(word.rpartition("/")[0] for word in line.split())
    return "\n\n".join(_glued(" ".join(words)) for words in paragraphs if words)


def _glued(spaced: str) -> str:
    once = _TWICE.sub("", spaced)
    quoted = once.replace("`` ", '"').replace(" ''", '"').replace("``", '"').replace("''", '"')
    return _BEFORE.sub(r"\1", _AFTER.sub(r"\1", quoted))
