"""The script that sends a 7B shape through a GPU, on a small shape and the CPU."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = [
    "--device",
    "cpu",
    "--layers",
    "2",
    "--width",
    "32",
    "--inner",
    "48",
    "--heads",
    "2",
    "--vocab",
    "256",
    "--windows",
    "3",
    "--window",
    "16",
]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("seven_billion", ROOT / "bench" / "seven_billion.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("recipe", ["w8a8-fast", str(ROOT / "bench" / "recipes" / "rotated-scales-w4a8.yaml")])
def test_a_small_shape_goes_all_the_way(script, recipe, tmp_path):
    results = tmp_path / "results.jsonl"
    line = script.main([*SMALL, "--recipe", recipe, "--scratch", str(tmp_path), "--results", str(results)])
    assert json.loads(results.read_text()) == json.loads(json.dumps(line))
    names = [phase["name"] for phase in line["phases"]]
    assert names[0] == "make the model" and ("end to end" in names) == ("rotated" in recipe)
    assert line["work_bytes"] > 0 and line["package_bytes"] > 0
    assert line["parameters"] == 2 * (4 * 32 * 32 + 3 * 32 * 48 + 2 * 32) + 32 + 2 * 256 * 32
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]


def test_the_shape_is_that_of_a_7b_llama(script):
    arch = script.shape(script.parsed([]))
    shapes = script.expected_shapes(arch)
    assert 6.7e9 < sum(sizes[0] * (sizes[1] if len(sizes) > 1 else 1) for sizes in shapes.values()) < 6.8e9
