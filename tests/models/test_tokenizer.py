import hashlib
import json

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, processors

from mobilequant.data.text import load_text
from mobilequant.errors import CheckpointError
from mobilequant.models.sources import resolve_folder
from mobilequant.models.tokenizer import Tokenizer, adds_bos


def byte_level(*, with_bos=False):
    """Every byte is a token, and a few pairs are merged; "<s>" and "</s>" are special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("Ġ", "w")]
    words = [*alphabet, *(a + b for a, b in merges)]
    inner = tokenizers.Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<s>", "</s>"])
    if with_bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))]
        )
    return inner


PLAIN = Tokenizer(byte_level())


@pytest.fixture
def folder(tmp_path):
    byte_level(with_bos=True).save(str(tmp_path / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


def test_never_adds_special_tokens(folder):
    tokenizer = Tokenizer.load(folder)
    ids = tokenizer.encode("hello world")
    assert tokenizer.bos not in ids
    assert tokenizer.decode(ids) == "hello world"
    assert tokenizer.decode([tokenizer.bos, *ids, tokenizer.eos]) == "hello world"
    assert tokenizer.bos != tokenizer.eos


def test_settings_are_optional(folder):
    (folder / "tokenizer_config.json").unlink()
    tokenizer = Tokenizer.load(folder)
    assert (tokenizer.bos, tokenizer.eos) == (None, None)


def test_bos_is_told_by_settings_then_by_the_template(folder):
    assert adds_bos(folder) is True
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>", "add_bos_token": false}')
    assert adds_bos(folder) is False
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    byte_level().save(str(folder / "tokenizer.json"))
    assert adds_bos(folder) is False
    (folder / "tokenizer.json").unlink()
    assert adds_bos(folder) is None


def test_missing_and_damaged_files(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="damaged"):
        Tokenizer.load(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        Tokenizer.load(folder)


def test_damaged_settings(folder):
    (folder / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="no JSON object"):
        Tokenizer.load(folder)


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_stream_gives_the_whole_text_and_no_broken_character(text):
    stream = PLAIN.stream()
    pieces = [stream.push(token) for token in PLAIN.encode(text)]
    assert "".join(pieces) + stream.finish() == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


def test_stream_holds_a_character_back_until_it_is_whole():
    stream = PLAIN.stream()
    assert [stream.push(token) for token in PLAIN.encode("a🙂b")] == ["a", "", "", "", "🙂", "b"]


def test_stream_shows_what_never_became_a_character():
    stream = PLAIN.stream()
    first = PLAIN.encode("é")[0]
    assert stream.push(first) == ""
    assert stream.finish() == "\ufffd"
    assert stream.finish() == ""


@pytest.mark.model
def test_real_ids_are_the_recorded_ones():
    ids = Tokenizer.load(resolve_folder("smollm2-135m")).encode(load_text("wiki_squad").content)
    assert len(ids) == 139_035
    digest = hashlib.sha256(np.array(ids[:20_480], "<i4").tobytes()).hexdigest()
    assert digest == "4b14b4881570e7d0c8d1723a1137b7de793d62ca0795e119c81b32dcea006a7a"


def test_more_tokens_than_the_model_has_are_refused_where_a_text_uses_them(folder):
    tokenizer = Tokenizer.load(folder, num_rows=257)  # the bytes and one merged pair
    assert max(tokenizer.encode("abc")) < 257
    with pytest.raises(CheckpointError, match="only 257 embeddings"):
        tokenizer.encode("hello")
