import json
from pathlib import Path

import pytest
import yaml

from mobilequant.report.model_card import code, plain, render_model_card, write_model_card
from mobilequant.report.schema import Result, as_result

SAMPLE = json.loads((Path(__file__).parent / "result.json").read_text(encoding="utf-8"))


def test_the_card_says_what_and_how_good(tmp_path):
    write_model_card(tmp_path / "README.md", SAMPLE)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    for value in ("static_w8c_a8_kv8", "25.08", "+3.8 %", "mobilequant generate", "Apache-2.0", "20,440 predictions"):
        assert value in card
    _, front, _ = card.split("---\n", 2)
    assert yaml.safe_load(front)["base_model"] == "SmolLM2-135M-Instruct"


def test_hostile_names_break_neither_table_nor_front_matter():
    name = "x|y\n---\n# [a](b) <script> `c`"
    result = as_result({"model": {"name": name}, "scores": [{"label": name, "kind": "float", "ppl": 2.0}]})
    card = render_model_card(result)
    front, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(front)["base_model"] == " ".join(name.split())
    assert "<script>" not in body.replace("\\<script\\>", "")
    row = next(line for line in body.splitlines() if "2.00" in line)
    assert row.replace("\\|", "").count("|") == 7


@pytest.mark.parametrize("section", sorted(SAMPLE))
def test_sections_may_be_missing(section):
    assert "How to run" in render_model_card(as_result({k: v for k, v in SAMPLE.items() if k != section}))


def test_nothing_is_known():
    assert "license: unknown" in render_model_card(Result())


def test_escapes():
    assert plain("a_b*c\n<d>") == r"a\_b\*c \<d\>"
    assert code("a`b|c\nd") == "`a'b\\|c d`"
