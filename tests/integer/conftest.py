"""Tiny models of every family, quantized by the real methods, for those who lower, run and store them."""

import json
import shutil
from dataclasses import replace
from functools import cache

import pytest
import torch

from mobilequant.arch import point
from mobilequant.integer.lower import lower
from mobilequant.integer.package import save_graph, write_manifest
from mobilequant.integer.provable import provable
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.scheme import parse_scheme

# What no family of models.tiny shows: config entries and architecture entries that differ from the family's.
VARIANTS = {
    "one norm for both branches": ("gpt_neox", {}, {"shared_block_norm": True}),
    "one key head, gated relu": ("llama", {"num_key_value_heads": 1}, {"activation": "relu"}),
    "norm with a large epsilon": ("llama", {}, {"norm_eps": 0.05}),
    "window, gated gelu": ("mistral", {"sliding_window": 3}, {"activation": "gelu"}),
}
RECIPE = {"ptf": {}, "smoothquant": {}, "ranges": {"estimator": "minmax"}, "rtn": {}}


def windows():
    return torch.randint(0, 96, (4, 20), generator=torch.Generator().manual_seed(7))


@cache
def quantized(name, scheme="static_w8c_a8_kv8", *, prefix=(1, 5), ptf=True, wide=(), narrow=()):
    model_type, config, arch = VARIANTS.get(name, (name, {}, {}))
    model = tiny_model(model_type, **config)
    model = replace(model, arch=replace(model.arch, **arch))
    points = list(point.all_points(model.arch))
    wide, narrow = (frozenset(each for each in points if point.role_of(each) in roles) for roles in (wide, narrow))
    formats = replace(parse_scheme(scheme), sixteen_bit=wide, eight_bit=narrow)
    methods = [make(method, options) for method, options in RECIPE.items() if ptf or method != "ptf"]
    return provable(run_methods(model, formats, methods, windows(), prefix=prefix))


@pytest.fixture(scope="session")
def tiny_quantized():
    """(family or variant, scheme name, *, prefix, ptf, wide roles, narrow roles) → QuantizedModel, made once."""
    return quantized


@pytest.fixture(scope="session")
def tiny_graph():
    """The same, lowered."""
    return cache(lambda *args, **kwargs: lower(quantized(*args, **kwargs)))


@pytest.fixture(scope="session")
def original(tmp_path_factory, tiny_graph):
    """Family → the folder of its packaged graph (grouped 4-bit weights), made once and only read."""

    @cache
    def made(name):
        folder = tmp_path_factory.mktemp(name)
        save_graph(tiny_graph(name, "static_w4g16_a8_kv8"), folder)
        write_manifest(folder, {"model": {"name": name}})
        return folder

    return made


@pytest.fixture
def package(original, tmp_path):
    """A copy of one to spoil."""
    return shutil.copytree(original("llama"), tmp_path, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def edit_json():
    """(path, change): rewrite a JSON file after ``change`` has edited what it holds."""

    def edit(path, change):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit
