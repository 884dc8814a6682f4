import pytest

from mobilequant.data import broad
from mobilequant.data.task import VARIANTS, load_task
from mobilequant.data.text import load_text, make_text
from mobilequant.data.window import shared_passage


@pytest.fixture
def parts(monkeypatch):
    def use(**documents):
        monkeypatch.setattr(broad, "BROAD", {name: lambda chosen=chosen: chosen for name, chosen in documents.items()})

    return use


def test_every_part_runs_through_the_whole_text(parts):
    parts(a=[f"a{n}" for n in range(8)], b=["b0", "b1"], c=["c0"])
    assert broad.broad() == ["a0", "a1", "b0", "a2", "a3", "c0", "a4", "a5", "b1", "a6", "a7"]


def test_documents_that_are_scored_elsewhere_are_left_out(parts, monkeypatch):
    monkeypatch.setattr(broad, "_SCORED_ELSEWHERE", {"ba7816bf8f01"})  # the sha256 of "abc"
    parts(a=["abc", "abd"])
    assert broad.broad() == ["abd"]


def test_excerpts_end_with_paragraphs_and_lose_nothing():
    paragraphs = [letter * length for letter, length in zip("abcde", (2_000, 3_000, 1_500, 9_000, 10), strict=True)]
    pieces = broad.excerpts("\n\n".join(paragraphs))
    assert pieces == ["\n\n".join(paragraphs[:2]), paragraphs[2], paragraphs[3], paragraphs[4]]
    assert broad.excerpts("one line") == ["one line"]


@pytest.fixture(scope="module")
def real():
    return load_text("ample")


def recorded(text):
    assert len(set(text.parts)) == len(text.parts)
    return text.sha256, len(text.content.encode()), len(text.parts)


@pytest.mark.model
def test_real_broad_is_the_recorded_text():
    digits = "4bf5df1a04b0763b62c9486eed70b089315c186aa8f26fc334bb91ebd3a1a695"
    assert recorded(load_text("broad")) == (digits, 9_115_049, 9_770)


@pytest.mark.model
def test_real_ample_is_the_recorded_text_and_holds_broad(real):
    digits = "24d2936347ca2f9f641994417127f11f89006f4b9bb0078d725414c05eb213d9"
    assert recorded(real) == (digits, 29_304_292, 17_936)
    assert set(load_text("broad").parts) <= set(real.parts)


@pytest.mark.model
@pytest.mark.parametrize("scoring", ["wiki_squad", "lambada", pytest.param("brown", marks=pytest.mark.npm)])
def test_real_ample_shares_nothing_with_scoring_texts(real, scoring):
    assert shared_passage(real.content, load_text(scoring).content, 50) is None


@pytest.mark.model
@pytest.mark.parametrize("task", VARIANTS)
def test_real_ample_shares_nothing_with_tasks(real, task):
    pairs = (pair for request in load_task(task) for pair in zip(request.contexts, request.continuations, strict=True))
    requests = make_text(task, dict.fromkeys(context + continuation for context, continuation in pairs))
    assert shared_passage(real.content, requests.content, 50) is None


@pytest.mark.model
def test_what_was_left_out_was_there(real):
    documents = {document for part in broad.AMPLE.values() for document in part()}
    assert len(documents) - len(real.parts) == len(broad._SCORED_ELSEWHERE)
