"""A whole checkpoint on disk that runs in milliseconds: what jobs, commands and documentation are tried on."""

import json
import logging
import random

import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mobilequant.arch import registry
from mobilequant.jobs.quantize import quantize
from mobilequant.methods import session
from mobilequant.models.canonical import hf_module
from mobilequant.models.tiny import tiny_config, tiny_model

settings.register_profile("thorough", max_examples=2000, deadline=None)

RECIPE = """\
version: 1
scheme: static_w8c_a8_kv8
prefix: {{tokens: auto, max_tokens: 1}}
methods:
  - smoothquant: {{alpha: 0.5}}
  - ranges: {{estimator: minmax}}
  - sixteen_bit: {{fraction_of_down: 0.5}}
  - rtn
data: {{text: {text}, window: 24, count: 4, seed: 0}}
seed: 0
"""


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def trainings_kept_at_once(monkeypatch):
    """Trainings here last less than the minute behind which their state is written."""
    monkeypatch.setattr(session, "PAUSE_S", 0.0)


@pytest.fixture(autouse=True)
def logging_as_it_was():
    """A command sends the library's messages to standard error; the next test must find them where it looks."""
    logger = logging.getLogger("mobilequant")
    before = (logger.handlers, logger.level, logger.propagate)
    yield
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """A random llama as a Hugging Face folder with a byte tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    sizes = {"vocab_size": 260, "bos_token_id": 256, "max_position_embeddings": 128}
    (folder / "config.json").write_text(json.dumps(tiny_config("llama", **sizes)))
    spec = registry.find("llama")
    tensors = tiny_model("llama", **sizes).tensors
    named = {hf_name(spec, name): tensor.contiguous() for name, tensor in tensors.items()}
    save_file(named, folder / "model.safetensors")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<bos>", "eos_token": "<eos>", "add_bos_token": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def hf_name(spec, name):
    module, _, kind = name.rpartition(".")
    return f"{hf_module(spec, module)}.{kind}"


def byte_tokenizer():
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<bos>", "<eos>"])
    return tokenizer


@pytest.fixture(scope="session")
def calibration_text(tmp_path_factory):
    """A text to take ranges from."""
    return words(tmp_path_factory.mktemp("calibration") / "calibration.txt", seed=1)


@pytest.fixture(scope="session")
def scoring_text(tmp_path_factory):
    """A text to score on, which shares no passage with the other."""
    return words(tmp_path_factory.mktemp("scoring") / "scoring.txt", seed=2)


def words(path, *, seed):
    generator = random.Random(seed)
    made = ("".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(1, 8))) for _ in range(400))
    path.write_text(" ".join(made))
    return path


@pytest.fixture(scope="session")
def tiny_package(tiny_checkpoint, calibration_text, tmp_path_factory):
    """The tiny checkpoint as an integer package, for those who only read it."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "tiny.yaml").write_text(RECIPE.format(text=calibration_text))
    return quantize(tiny_checkpoint, recipe=folder / "tiny.yaml", out=folder / "tiny-w8a8")


@pytest.fixture
def tiny_recipe(tmp_path, calibration_text):
    """A recipe file that calibrates on the small text, for those who change it."""
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE.format(text=calibration_text))
    return path
