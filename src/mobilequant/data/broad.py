"""The calibration and training text ``broad``: many kinds of writing, so mixed that any stretch has seen most of them.

Ten parts: speeches, stories, encyclopedia, numbers in prose, science for school, worked sums, mathematics in TeX,
programs in 17 languages, papers, abstracts. Long documents are cut into excerpts at the ends of paragraphs. Each
document stands at its relative place in its own part, so all parts run through the whole text at an even pace.

Nothing in it is in a scoring text or in a task of ``data.task``: those documents are named in ``_SCORED_ELSEWHERE``.
What it does hold is text of the benchmarks BoolQ, DROP, CoQA, SciQ, GSM8K, MATH, MBPP, QASPER and SciRIFF: after tuning
on ``broad``, scores on those mean nothing. HumanEval was left out for that reason, LAB-Bench because it asks for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mobilequant.data.corpus import coqa_stories, request_rows, sotu

_EXCERPT_CHARACTERS = 6_000

_MATHEMATICS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
_LANGUAGES = (
    "bash",
    "c",
    "cpp",
    "csharp",
    "go",
    "haskell",
    "java",
    "javascript",
    "matlab",
    "php",
    "python",
    "r",
    "ruby",
    "rust",
    "scala",
    "swift",
    "typescript",
)

# The first 12 digits of the sha256 of each document that shares 50 characters with a scoring text or a task.
_SCORED_ELSEWHERE = frozenset(
    (
        "a8f8834d133f",
        "f90cce5728e2",
        "2529e0b576c5",
        "e18f0e67a733",
        "e4c3b20242bf",
        "4a5dc0ece9bf",
        "376cd1dadc34",
        "9a7ed1ff8807",
        "f72cbd940a48",
        "36e52b56f6ea",
        "b09ac100c66c",
        "335c15227fad",
    )
)


def broad() -> list[str]:
    """9,770 documents of ten kinds, mixed. 9.1 MB, 2.3 M tokens, for calibration and training."""
    return [document for _, document in sorted(_placed(parts()), key=lambda placed: placed[0])]


def parts() -> dict[str, list[str]]:
    """The documents of each part, without those that are scored elsewhere."""
    return {name: [text for text in part() if _is_free(text)] for name, part in PARTS.items()}


def _placed(chosen: dict[str, list[str]]) -> Iterator[tuple[tuple[float, int], str]]:
    """Every document with its relative place in its part, in (0, 1); the number of the part decides between equals."""
    for number, documents in enumerate(chosen.values()):
        for index, document in enumerate(documents):
            yield ((index + 0.5) / len(documents), number), document


def _is_free(document: str) -> bool:
    return hashlib.sha256(document.encode()).hexdigest()[:12] not in _SCORED_ELSEWHERE


def _speeches() -> list[str]:
    return [excerpt for speech in sotu()[4::8] for excerpt in excerpts(speech)]


def _stories() -> list[str]:
    return coqa_stories()


def _encyclopedia() -> list[str]:
    return _distinct(doc["query"].rpartition("\nQuestion: ")[0] for doc in _docs("boolq/rc_0shot"))


def _counted_facts() -> list[str]:
    return _distinct(doc["passage"] for doc in _docs("drop/bpb_5shot"))


def _school_science() -> list[str]:
    return _distinct(doc["support"] for doc in _docs("sciq/rc_0shot"))


def _sums() -> list[str]:
    return _distinct(f"{doc['question']}\n{doc['choices'][0]}" for doc in _docs("gsm8k/gold_bpb_5shot"))


def _mathematics() -> list[str]:
    """Every eighth problem of MATH with its solution."""
    variants = (f"minerva_math_{subject}/gold_bpb_0shot" for subject in _MATHEMATICS)
    return [f"{doc['problem']}\n{doc['solution']}" for variant in variants for doc in list(_docs(variant))[::8]]


def _programs() -> list[str]:
    """Every fourth task of MBPP in each language; neighbouring languages take different ones."""
    variants = (f"mt_mbpp_{language}/gold_bpb_3shot" for language in _LANGUAGES)
    return [
        f"{doc['text']}\n{doc['code']}"
        for number, variant in enumerate(variants)
        for doc in list(_docs(variant))[number % 4 :: 4]
    ]


def _papers() -> list[str]:
    """Every fourth paper of QASPER."""
    papers = _distinct("\n\n".join(_paragraphs(doc)) for doc in _docs("qasper_yesno/mc_5shot"))
    return [excerpt for paper in papers[::4] for excerpt in excerpts(paper)]


def _paragraphs(doc: dict[str, Any]) -> Iterator[str]:
    yield from (doc["title"], doc["abstract"])
    for section in doc["full_text"]["paragraphs"]:
        yield from section


def _abstracts() -> list[str]:
    """Every fourth context of SciRIFF."""
    return _distinct(doc["context"] for doc in _docs("sciriff_yesno/mc_5shot"))[::4]


PARTS: dict[str, Callable[[], list[str]]] = {
    "speeches": _speeches,
    "stories": _stories,
    "encyclopedia": _encyclopedia,
    "counted_facts": _counted_facts,
    "school_science": _school_science,
    "sums": _sums,
    "mathematics": _mathematics,
    "programs": _programs,
    "papers": _papers,
    "abstracts": _abstracts,
}


def excerpts(document: str) -> list[str]:
    """A document cut at the ends of paragraphs: pieces of up to about 6,000 characters, or of one longer paragraph."""
    pieces: list[str] = []
    for paragraph in document.split("\n\n"):
        if pieces and len(pieces[-1]) + len(paragraph) < _EXCERPT_CHARACTERS:
            pieces[-1] += f"\n\n{paragraph}"
        else:
            pieces.append(paragraph)
    return pieces


def _docs(variant: str) -> Iterator[dict[str, Any]]:
    return (row["doc"] for row in request_rows(variant))


def _distinct(documents: Iterable[str]) -> list[str]:
    """Every document once, in the order of its first coming; empty ones are dropped."""
    return list(dict.fromkeys(document.strip() for document in documents if document.strip()))
