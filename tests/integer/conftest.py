"""Tiny models of every family, quantized by the real methods, for those who lower, run and store them."""

import json
import shutil
from functools import cache

import pytest

from mobilequant.integer.package import save_graph, write_manifest
from tiny_quantized import lowered, quantized


@pytest.fixture(scope="session")
def tiny_quantized():
    """As ``tiny_quantized.quantized``."""
    return quantized


@pytest.fixture(scope="session")
def tiny_graph():
    """The same, lowered."""
    return lowered


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
