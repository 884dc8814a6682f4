"""Builds of the engine without Python, and tiny packages for its programs."""

import shutil
from functools import cache

import pytest
import torch

from engine_build import ROOT, Build, Locked, succeed, tool
from mobilequant.integer.lower import lower
from mobilequant.integer.package import save_graph, write_manifest
from mobilequant.integer.provable import provable
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.scheme import parse_scheme

METHODS = {"ptf": {}, "smoothquant": {}, "ranges": {"estimator": "minmax"}, "rtn": {}}
# heads that end inside a group of columns, at the end of a row
NARROW_HEADS = {"hidden_size": 64, "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 4}
TINY = {
    "llama": ("llama", {"num_hidden_layers": 1}),
    "gpt2": ("gpt2", {"n_layer": 1}),
    "gemma3": ("gemma3_text", {"num_hidden_layers": 3}),
    "narrow heads": ("llama", NARROW_HEADS),
}


@pytest.fixture(scope="session")
def build():
    """Preset → Build, configured once."""

    @cache
    def configured(preset):
        if not shutil.which("c++"):
            pytest.skip("there is no C++ compiler")
        runner = ()
        if preset == "aarch64":
            emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
            if not shutil.which("aarch64-linux-gnu-g++") or not emulator:
                pytest.skip("needs g++-aarch64-linux-gnu and qemu-user")
            runner = (emulator, "-cpu", "max,sme=off")
        folder = ROOT / "build" / preset
        with Locked(folder):
            succeed([tool("cmake"), "--preset", preset, f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"], cwd=ROOT)
        return Build(folder, runner)

    return configured


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Name in TINY → a package with grouped 4-bit weights and a prefix, made once and only read."""

    @cache
    def made(name):
        model_type, config = TINY[name]
        model = tiny_model(model_type, **config)
        methods = [make(method, options) for method, options in METHODS.items()]
        windows = torch.randint(0, 96, (4, 20), generator=torch.Generator().manual_seed(7))
        scheme = parse_scheme("static_w4g16_a8_kv8")
        folder = tmp_path_factory.mktemp("native") / name.replace(" ", "-")
        folder.mkdir()
        save_graph(lower(provable(run_methods(model, scheme, methods, windows, prefix=(1, 5)))), folder)
        write_manifest(folder, {"leading_token": 2, "model": {"name": name}})
        return folder

    return made
