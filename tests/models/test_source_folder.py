import json
import logging
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from mobilequant.arch import registry
from mobilequant.errors import CheckpointError, ResourceError
from mobilequant.models.canonical import hf_module
from mobilequant.models.sources.folder import load_folder, read_config
from mobilequant.models.sources.shard import Shards
from mobilequant.models.tiny import tiny_config, tiny_model
from mobilequant.pipeline import resource


@pytest.fixture
def folder(tmp_path):
    """A tiny Llama as Hugging Face lays it out."""
    spec, model = registry.find("llama"), tiny_model("llama")
    tensors = {f"{hf_module(spec, name.rpartition('.')[0])}.weight": value for name, value in model.tensors.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(tiny_config("llama")))
    return tmp_path


def test_loads_all_tensors(folder):
    model, expected = load_folder(folder), tiny_model("llama")
    assert model.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(model.tensors[name], value) for name, value in expected.tensors.items())
    assert (model.source, model.tokenizer_dir) == (str(folder), folder)
    assert load_folder(folder, source="mine").source == "mine"


def test_remote_code_is_ignored_and_said(folder, caplog):
    config = {**tiny_config("llama"), "auto_map": {"AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit")
    with caplog.at_level(logging.WARNING):
        load_folder(folder)
    assert "it is ignored" in caplog.text


def test_bos_comes_from_the_tokenizer(folder):
    assert "add_bos_token" not in read_config(folder)
    (folder / "tokenizer_config.json").write_text('{"add_bos_token": true}')
    assert load_folder(folder).arch.add_bos is True


def test_missing_config_names_a_gguf_file_nearby(folder):
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json") as caught:
        load_folder(folder)
    assert ".safetensors" in caught.value.remedy
    (folder / "m.gguf").touch()
    with pytest.raises(CheckpointError) as caught:
        load_folder(folder)
    assert "m.gguf" in caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000])
def test_damaged_config(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_folder(folder)


def test_huge_config_is_not_read(folder, monkeypatch):
    monkeypatch.setattr("mobilequant.models.json_file.LARGEST_BYTES", 10)
    with pytest.raises(CheckpointError, match="more than 10 bytes"):
        load_folder(folder)


def test_a_wrapper_around_a_language_model_is_told(folder):
    config = {"model_type": "gemma3", "text_config": tiny_config("gemma3_text")}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="text_config") as caught:
        load_folder(folder)
    assert "language_model" in caught.value.remedy


def test_memory_is_checked_before_a_tensor_is_read(folder, monkeypatch):
    monkeypatch.setattr(resource.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(Shards, "__getitem__", None)
    with pytest.raises(ResourceError, match=rf"loading {folder} needs about .* kB of memory"):
        load_folder(folder)
