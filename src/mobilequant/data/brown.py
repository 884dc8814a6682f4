"""The Brown corpus as running text: tags off, quotation marks and punctuation back at their words."""

from __future__ import annotations

import re

from mobilequant.data import pins
from mobilequant.data.package import fetch
from mobilequant.data.tarball import read_files

_SAMPLE = re.compile(r"package/c[a-r][0-9]{2}")
_UNPACKED_LIMIT_BYTES = 1 << 24  # the package has 10.4 MB

_BEFORE = re.compile(r"\s+([.,;:?!')])")  # the ' begins the closing '' too
_AFTER = re.compile(r"\(\s+")


def brown() -> list[str]:
    """500 samples of American prose printed in 1961, 2,000 words each: news, essays, learned, fiction. 6.0 MB."""
    samples = read_files(fetch(pins.BROWN), _SAMPLE, limit_bytes=_UNPACKED_LIMIT_BYTES)
    return [prose(samples[name].decode("ascii", errors="replace")) for name in sorted(samples)]


def prose(tagged: str) -> str:
    """Running text of a tagged sample, ``The/at jury/nn said/vbd ./.`` → ``The jury said.``

    A sentence a line, as in the corpus; paragraphs are not marked. The end marks that the corpus writes twice (``? ?``)
    stay double. Quotations, there `` and '', get straight marks.
    """
    lines = (" ".join(word.rpartition("/")[0] for word in line.split()) for line in tagged.splitlines())
    glued = _AFTER.sub("(", _BEFORE.sub(r"\1", "\n".join(line for line in lines if line)))
    return glued.replace("`` ", '"').replace("``", '"').replace("''", '"')
