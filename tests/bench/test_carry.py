"""What is taken along to a machine without network arrives whole, or is asked for again."""

from __future__ import annotations

import hashlib
import json
from argparse import Namespace

import pytest

import carry


@pytest.fixture
def packed(tmp_path):
    """A folder with one part of three pieces: two files of the cache."""
    files = []
    for number in range(2):
        path = tmp_path / f"model-{number}.whl"
        path.write_bytes(bytes([number]) * 9_000)
        files.append(("packages", path))
    folder, manifest = tmp_path / "packed", {}
    folder.mkdir()
    for number, piece in enumerate(carry.pieces(files, 8_192)):
        (folder / f"tiny.{number:02}").write_bytes(piece)
        manifest[f"tiny.{number:02}"] = hashlib.sha256(piece).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"tiny": manifest}))
    return folder


@pytest.fixture
def unpack(packed, tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILEQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(carry, "_CONVERT", "import sys; print('converted', sys.argv[1])")
    return lambda parts=None: carry.unpack(Namespace(folder=packed, site=tmp_path / "site", parts=parts))


def test_parts_arrive_as_they_were(unpack, tmp_path, capfd):
    unpack()
    found = sorted((tmp_path / "cache" / "packages").iterdir())
    assert [path.read_bytes() for path in found] == [bytes([number]) * 9_000 for number in range(2)]
    assert capfd.readouterr().out == "converted tiny\n"


def test_pieces_are_no_larger_than_asked_for(packed):
    sizes = [path.stat().st_size for path in sorted(packed.glob("tiny.*"))]
    assert len(sizes) > 2 and set(sizes[:-1]) == {8_192} and sizes[-1] <= 8_192


def test_a_piece_that_is_missing_or_damaged_stops_it(packed, unpack, tmp_path):
    (packed / "tiny.01").write_bytes(b"x" * 8_192)
    with pytest.raises(SystemExit, match=r"tiny\.01 is damaged"):
        unpack()
    (packed / "tiny.01").unlink()
    with pytest.raises(SystemExit, match=r"tiny\.01 has not arrived"):
        unpack(["tiny"])
    assert not (tmp_path / "cache").exists()


def test_a_model_that_cannot_be_converted_is_told(unpack, monkeypatch):
    monkeypatch.setattr(carry, "_CONVERT", "raise SystemExit(3)")
    with pytest.raises(SystemExit, match="could not be converted"):
        unpack()
