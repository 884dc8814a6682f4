"""The training texts ``broad`` and ``ample``: many kinds of writing, so mixed that any stretch has seen most of them.

Ten parts: speeches, stories, encyclopedia, numbers in prose, science for school, worked sums, mathematics in TeX,
programs in 17 languages, papers, abstracts. Long documents are cut into excerpts at the ends of paragraphs. Each
document stands at its relative place in its own part, so all parts run through the whole text at an even pace.
``ample`` thins its long parts less, and has three times as much.

Nothing in them is in a scoring text or in a task of ``data.task``: those documents are named in ``_SCORED_ELSEWHERE``.
What they do hold is text of the benchmarks BoolQ, DROP, CoQA, SciQ, GSM8K, MATH, MBPP, QASPER and SciRIFF: after
tuning on them, scores on those mean nothing. HumanEval was left out for that reason, LAB-Bench because it asks for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from mobilequant.data.corpus import coqa_stories, request_rows, sotu

Part = Callable[[], list[str]]

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
_DIGITS = """
a8f8834d133f f90cce5728e2 2529e0b576c5 e18f0e67a733 e4c3b20242bf 4a5dc0ece9bf 376cd1dadc34 9a7ed1ff8807
f72cbd940a48 36e52b56f6ea b09ac100c66c 335c15227fad b16e8c6e30e1 9567b1f7ba6b 57917f02dd83 c0fe43567dc1
b3838920a91b 6a7c9154a26f 18c6e09be192 cf05e45b9ca6 0630c986db73 99bb180bc719 46bb64241d3b 5c2f00b2d6ee
d01aeaca5e84 dea923b28105 2a4a93b52918 8b37e22af1b1 1f8f3cff0a29 642d0fdb154b d9a68c79848a 9d04a56e75a4
4107dfb0c10f 022461a10360 86eb84fcc757 9a649c87e01f 07b765ae4056 698d970bf522 8df25373818f 112ae9a1cda7
2a07a5179f5b 4faea10ec302 e25f7c8bc8a0 78f745595a7e 29b3ac784de8 8afa64af3ed3 ede476acb3d0 1cf2311df330
b1a787a58821
"""
_SCORED_ELSEWHERE = frozenset(_DIGITS.split())


def broad() -> list[str]:
    """9,770 documents of ten kinds, mixed. 9.1 MB, 2.3 M tokens, for calibration and training."""
    return _mixed(BROAD)


def ample() -> list[str]:
    """17,936 documents of the same kinds, mixed. 29.3 MB, 6.9 M tokens, for training."""
    return _mixed(AMPLE)


def parts(makers: Mapping[str, Part]) -> dict[str, list[str]]:
    """The documents of each part, without those that are scored elsewhere."""
    return {name: [text for text in make() if _is_free(text)] for name, make in makers.items()}


def _mixed(makers: Mapping[str, Part]) -> list[str]:
    return [document for _, document in sorted(_placed(parts(makers)), key=lambda placed: placed[0])]


def _placed(chosen: dict[str, list[str]]) -> Iterator[tuple[tuple[float, int], str]]:
    """Every document with its relative place in its part, in (0, 1); the number of the part decides between equals."""
    for number, documents in enumerate(chosen.values()):
        for index, document in enumerate(documents):
            yield ((index + 0.5) / len(documents), number), document


def _is_free(document: str) -> bool:
    return hashlib.sha256(document.encode()).hexdigest()[:12] not in _SCORED_ELSEWHERE


def _speeches(every: int) -> list[str]:
    return [excerpt for speech in sotu()[every // 2 :: every] for excerpt in excerpts(speech)]


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


def _mathematics(every: int) -> list[str]:
    """Problems of MATH with their solutions."""
    variants = (f"minerva_math_{subject}/gold_bpb_0shot" for subject in _MATHEMATICS)
    return [f"{doc['problem']}\n{doc['solution']}" for variant in variants for doc in list(_docs(variant))[::every]]


def _programs(every: int) -> list[str]:
    """Tasks of MBPP in each language; neighbouring languages take different ones."""
    variants = (f"mt_mbpp_{language}/gold_bpb_3shot" for language in _LANGUAGES)
    return [
        f"{doc['text']}\n{doc['code']}"
        for number, variant in enumerate(variants)
        for doc in list(_docs(variant))[number % every :: every]
    ]


def _papers(every: int) -> list[str]:
    """Papers of QASPER."""
    papers = _distinct("\n\n".join(_paragraphs(doc)) for doc in _docs("qasper_yesno/mc_5shot"))
    return [excerpt for paper in papers[::every] for excerpt in excerpts(paper)]


def _paragraphs(doc: dict[str, Any]) -> Iterator[str]:
    yield from (doc["title"], doc["abstract"])
    for section in doc["full_text"]["paragraphs"]:
        yield from section


def _abstracts(every: int) -> list[str]:
    """Contexts of SciRIFF."""
    return _distinct(doc["context"] for doc in _docs("sciriff_yesno/mc_5shot"))[::every]


BROAD: dict[str, Part] = {
    "speeches": partial(_speeches, every=8),
    "stories": _stories,
    "encyclopedia": _encyclopedia,
    "counted_facts": _counted_facts,
    "school_science": _school_science,
    "sums": _sums,
    "mathematics": partial(_mathematics, every=8),
    "programs": partial(_programs, every=4),
    "papers": partial(_papers, every=4),
    "abstracts": partial(_abstracts, every=4),
}
AMPLE: dict[str, Part] = {
    **BROAD,
    "speeches": partial(_speeches, every=1),
    "mathematics": partial(_mathematics, every=2),
    "programs": partial(_programs, every=2),
    "papers": partial(_papers, every=1),
    "abstracts": partial(_abstracts, every=1),
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
