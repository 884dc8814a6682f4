"""A whole run that two processes share."""

import pytest
import torch

from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.package import verify_files
from mobilequant.jobs.package import open_package
from mobilequant.jobs.quantize import quantize
from processes import in_two

RECIPE = """\
version: 1
scheme: static_w8c_a8_kv8
prefix: {{tokens: auto, max_tokens: 1}}
methods:
  - smoothquant: {{alpha: 0.5}}
  - ranges: {{estimator: minmax}}
  - sixteen_bit: {{fraction_of_down: 0.5}}
  - gptq
  - mobilequant: {{batch: {batch}, held_out: 2}}
data: {{text: {text}, window: 24, count: 6, seed: 0}}
seed: 0
"""
TOKENS = torch.tensor([5, 40, 80, 3, 17, 9, 200, 31])


def together(*arguments):
    return in_two("-m", "mobilequant", "quantize", *arguments, capture_output=True, text=True, check=False)


@pytest.fixture
def recipe(calibration_text, tmp_path):
    def written(batch):
        path = tmp_path / f"batch-{batch}.yaml"
        path.write_text(RECIPE.format(text=calibration_text, batch=batch))
        return path

    return written


def test_two_processes_write_one_package_like_that_of_one(tiny_checkpoint, recipe, tmp_path):
    out, work = tmp_path / "both", tmp_path / "work"
    asked = (tiny_checkpoint, "--recipe", recipe(2), "--out", out, "--work-dir", work, "--format", "json")
    ended = together(*asked)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count('"package"') == 1 and ended.stderr.count("Plan:") == 1
    verify_files(out)
    alone = open_package(quantize(tiny_checkpoint, recipe=recipe(2), out=tmp_path / "alone"))
    logits, expected = (Interpreter(graph).logits(TOKENS) for graph in (open_package(out).graph, alone.graph))
    assert (logits - expected).abs().mean() < 0.02 * expected.std()


def test_what_cannot_be_divided_is_told_and_leaves_no_package(tiny_checkpoint, recipe, tmp_path):
    ended = together(tiny_checkpoint, "--recipe", recipe(1), "--out", tmp_path / "out")
    assert ended.returncode != 0
    assert (
        "Error: method 'mobilequant': 2 processes cannot divide a batch of 1 evenly\nSet the batch of the method"
        in ended.stderr
    )
    assert not (tmp_path / "out").exists()
