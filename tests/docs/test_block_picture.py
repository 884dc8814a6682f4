"""The picture of the block names what is there: every point with its bits, every matrix, every pair."""

import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mobilequant.arch import point
from mobilequant.arch.pair import scale_pairs
from mobilequant.methods.ranges.method import attention_operands
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.scheme import parse_scheme

FOLDER = Path(__file__).parents[2] / "docs" / "methods"
PICTURE = FOLDER / "mobilequant-block.svg"
SVG = "{http://www.w3.org/2000/svg}"
ARCH = tiny_model("llama").arch
SCHEME = parse_scheme("static_w4c_a8_kv8")


@pytest.fixture(scope="module")
def drawn():
    return ElementTree.parse(PICTURE).getroot()


def points(drawn):
    return {group.get("data-point"): group for group in drawn.iter(f"{SVG}g") if group.get("data-point")}


def test_every_point_of_a_block_is_drawn_with_its_bits(drawn):
    shown = {name: group.get("class") for name, group in points(drawn).items()}
    there = {point.role_of(name): SCHEME.activation_qtype(name).num_bits for name in point.block_points(ARCH, 0)}
    assert shown == {role: f"w{num_bits}" for role, num_bits in there.items()}


def test_fixed_zero_points_are_drawn(drawn):
    marked = {name for name, group in points(drawn).items() if "z=128" in "".join(group.itertext())}
    assert marked == {point.role_of(name) for name in attention_operands(ARCH) if name.startswith("layers.0.")}


def test_every_matrix_and_every_pair_is_drawn(drawn):
    texts = [text.text for text in drawn.iter(f"{SVG}text")]
    matrices = [text.text for text in drawn.iter(f"{SVG}text") if text.get("class") == "bold"]
    assert sorted(matrices) == sorted(point.linear_roles(ARCH))
    kinds = {pair.kind for pair in scale_pairs(ARCH) if pair.layer == 0}
    names = {"norm → q k v", "norm → gate, up", "up → down", "v → o", "q → k"}
    assert names <= set(texts)
    assert len(names) == len(kinds)


def test_it_is_what_the_script_draws_and_small(tmp_path, monkeypatch):
    module = runpy.run_path(str(FOLDER / "draw_block.py"))
    before = PICTURE.read_text("utf-8")
    monkeypatch.setitem(module["main"].__globals__, "__file__", str(tmp_path / "draw_block.py"))
    module["main"]()
    assert (tmp_path / PICTURE.name).read_text("utf-8") == before
    assert len(before.encode()) < 60_000
