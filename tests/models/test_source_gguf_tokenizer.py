"""A tokenizer out of a GGUF file is the one that the file describes, or none."""

from types import SimpleNamespace

import pytest
import tokenizers
import transformers

from mobilequant.errors import CheckpointError
from mobilequant.models.sources.gguf_tokenizer import MODEL, save_tokenizer


@pytest.fixture
def unigram(monkeypatch):
    """What transformers 5.17 makes of Gemma's merges: every text is cut into twice as many tokens."""
    model = tokenizers.models.Unigram([("<s>", 0.0), ("a", -1.0)], unk_id=0)
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(model))
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: made)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_merges_that_transformers_loses_are_noticed(unigram, tmp_path, kind):
    with pytest.raises(CheckpointError, match=r"tiny\.gguf has merges, and transformers .* makes a Unigram") as raised:
        save_tokenizer(tmp_path / "tiny.gguf", SimpleNamespace(metadata={MODEL: kind}), tmp_path)
    assert "transformers>=5.23" in raised.value.remedy


def test_a_unigram_tokenizer_may_be_one(unigram, tmp_path):
    save_tokenizer(tmp_path / "tiny.gguf", SimpleNamespace(metadata={MODEL: "t5"}), tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
