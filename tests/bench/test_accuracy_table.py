"""The table of accuracies from one command, on a tiny model and the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import accuracy.make
import accuracy_table
from accuracy.row import RECIPES, Row, Scoring, rows
from accuracy.run import Crew, Pace
from accuracy.table import STAGE_C, TARGETS, column, markdown
from mobilequant.data.task import Request
from mobilequant.pipeline.preset import preset_names

TASKS = {
    "piqa": [Request(n, ("the sky is",) * 2, (" blue", " made of cheese"), n % 2) for n in range(6)],
    "lambada": [Request(n, ("once upon a",), (" time",), 0) for n in range(6)],
}


def command(tiny_checkpoint, recipes, texts, tmp_path, *more):
    given = ["--models", tiny_checkpoint, "--recipes", *recipes, "--texts", *texts, "--window", 32, "--tokens", 62]
    return [str(word) for word in (*given, "--work", tmp_path / "work", "--results", tmp_path / "results", *more)]


@pytest.fixture
def scoring(scoring_text):
    return Scoring((str(scoring_text),), tokens=62, window=32, tasks=tuple(TASKS), documents=4)


def test_one_command_makes_the_table(tiny_checkpoint, tiny_recipe, scoring_text, tmp_path, capsys, monkeypatch):
    other = tmp_path / "other.txt"
    other.write_text(scoring_text.read_text()[::-1])
    broken = tmp_path / "broken.yaml"
    broken.write_text(tiny_recipe.read_text().replace("w8c", "w4g64"))
    recipes, texts = [tiny_recipe, broken], [scoring_text, other]
    given = command(tiny_checkpoint, recipes, texts, tmp_path, "--seeds", "0", "1", "--parallel", "2")
    assert accuracy_table.main(given) == 1
    said = capsys.readouterr().out
    assert said.count("FAILED") == 2 and "groups of 64 do not divide" in said
    path = tmp_path / "results" / f"accuracy_{tiny_checkpoint.name}.json"
    found = json.loads(path.read_text())
    assert list(found) == ["tiny", "tiny@1"]
    assert found["tiny"]["integer"]["ppl"] != found["tiny@1"]["integer"]["ppl"]
    assert list(found["tiny"]["other_texts"]) == [str(other)]
    assert found["tiny"]["package"]["sixteen_bit_down_inputs"] == 1
    assert found["tiny"]["package"]["float_ops"] == 0
    assert {"package", "scoring-32-62", "other-32-62"} == set(found["tiny"]["run"]["seconds"])
    assert path.with_suffix(".md").read_text() in said
    log = next((tmp_path / "work").rglob("tiny-*/log.txt")).read_text()
    assert "statistics for ranges" in log and "clipped_points" in log

    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a row was begun"))
    assert accuracy_table.main([*given, "--deadline", "0"]) == 2
    assert capsys.readouterr().out.count("not begun") == 2
    assert json.loads(path.read_text()) == found


def test_a_row_that_extends_another_shares_its_work(tiny_checkpoint, tiny_recipe, scoring_text, tmp_path, capsys):
    longer = tmp_path / "longer.yaml"
    longer.write_text(
        tiny_recipe.read_text().replace("  - rtn\n", "  - rtn\n  - mobilequant: {batch: 1, held_out: 1}\n")
    )
    given = command(tiny_checkpoint, [longer, tiny_recipe], [scoring_text], tmp_path)
    assert accuracy_table.main(given) == 0
    assert capsys.readouterr().out.count("/2] ") == 2
    found = json.loads((tmp_path / "results" / f"accuracy_{tiny_checkpoint.name}.json").read_text())
    assert found["longer"]["run"]["begun_by"] == "tiny" and "begun_by" not in found["tiny"]["run"]
    log = next((tmp_path / "work").rglob("longer-*/log.txt")).read_text()
    assert log.count("B  statistics for ranges") == 1 and "B  end to end" in log
    assert not list((tmp_path / "work").rglob("*.work")) and not list((tmp_path / "work").rglob("tiny-*/log.txt"))

    alone = tmp_path / "alone"
    accuracy.make.make(
        Row(str(tiny_checkpoint), str(longer)), Scoring((str(scoring_text),), 62, 32, (), 500), alone, "cpu"
    )
    weights = [next(place.rglob("longer-*/package/*.safetensors")).read_bytes() for place in (alone, tmp_path / "work")]
    assert weights[0] == weights[1]


def test_rows_of_other_runs_stay(tiny_checkpoint, tiny_recipe, scoring, tmp_path):
    path = tmp_path / "results" / f"accuracy_{tiny_checkpoint.name}.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"older": {"integer": {"ppl": 3.0}}}))
    row = Row(str(tiny_checkpoint), str(tiny_recipe))
    scoring = Scoring(scoring.texts, scoring.tokens, scoring.window, (), 0)
    accuracy.make.make(row, scoring, tmp_path / "work", "cpu")
    accuracy_table.Table([row], scoring, tmp_path / "work", path.parent).report(row, done=True)
    assert list(json.loads(path.read_text())) == ["older", "tiny"]


def test_a_killed_row_goes_on_and_float_answers_are_shared(
    tiny_checkpoint, tiny_recipe, scoring, tmp_path, monkeypatch
):
    asked = []

    def load(task):
        asked.append(task)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return TASKS[task]

    monkeypatch.setattr(accuracy.make, "load_task", load)
    first, second = rows([str(tiny_checkpoint)], [str(tiny_recipe)], [0, 1])
    with pytest.raises(KeyboardInterrupt):
        accuracy.make.make(first, scoring, tmp_path, "cpu")
    assert first.found(tmp_path, scoring) is None
    with monkeypatch.context() as patch:
        for name in ("prepare", "evaluate"):
            patch.setattr(accuracy.make, name, lambda *_, **__: pytest.fail("it was done again"))
        made = accuracy.make.make(first, scoring, tmp_path, "cpu")
    assert made == first.found(tmp_path, scoring)
    assert made["tasks"]["average"].keys() == {"float", "integer"}
    assert made["tasks"]["piqa"]["integer"]["docs"] == 4

    answered = []
    real = accuracy.make.answered
    monkeypatch.setattr(accuracy.make, "answered", lambda *all, **how: answered.append(all) or real(*all, **how))
    again = accuracy.make.make(second, scoring, tmp_path, "cpu")
    assert len(answered) == len(TASKS)
    assert again["tasks"]["piqa"]["float"] == made["tasks"]["piqa"]["float"]


def test_a_changed_recipe_is_another_row(tiny_checkpoint, tiny_recipe, tmp_path):
    row = Row(str(tiny_checkpoint), str(tiny_recipe))
    before = row.folder(tmp_path)
    tiny_recipe.write_text(tiny_recipe.read_text().replace("alpha: 0.5", "alpha: 0.6"))
    assert Row(row.model, row.name).folder(tmp_path) != before


def test_seeds_are_those_of_all_windows():
    assert [row.name for row in rows(["m"], ["a", "b@2"], [0, 1])] == ["a", "a@1", "b@2"]
    recipe = Row("m", "w4a8-best@3").recipe
    assert (recipe.data.seed, recipe.training.seed, recipe.seed) == (3, 3, 0)
    assert Row("m", "w8a8-fast@3").recipe.training is None


def test_what_runs_by_default_is_there_and_dear_rows_are_dear(scoring):
    known = {path.stem for path in RECIPES.glob("*.yaml")} | set(preset_names())
    assert {*accuracy_table.BASELINES, *accuracy_table.PRESETS, *accuracy_table.TRAINED} <= known
    costs = [
        Row(*row).cost(scoring)
        for row in [
            ("smollm2-135m", "w8a8-fast"),
            ("smollm2-135m", "w4a8-best"),
            ("smollm2-135m", "w4a8-tuned"),
            ("qwen2.5-coder-0.5b", "w4a8-tuned"),
        ]
    ]
    assert costs == sorted(costs) and costs[1] > 10 * costs[0]


@pytest.mark.parametrize("width", ["w8a8", "w4a8"])
def test_the_faithful_mode_sees_the_windows_of_the_default_mode(width):
    faithful, ours = (Row("m", f"{name}-{width}").recipe for name in ("faithful", "rotated-scales"))
    assert (faithful.data, faithful.training) == (ours.data, ours.training)
    assert faithful.methods[-1].options == {"mode": "faithful", "epochs": 1}
    assert not {"sixteen_bit", "rotate"} & {entry.name for entry in faithful.methods}


def crew(tmp_path, script, *, end, devices=("cpu",), parallel=1):
    return Crew(
        lambda row, device: [sys.executable, "-S", "-E", "-c", script, row.name, device],
        lambda row: tmp_path / row.name,
        devices,
        parallel,
        end,
    )


def test_long_rows_first_each_alone_on_its_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    script = "import os, sys; print(*sys.argv[1:], os.environ['CUDA_VISIBLE_DEVICES']); sys.exit(sys.argv[1] == 'b')"
    made = []
    team = crew(tmp_path, script, end=time.monotonic() + 60, devices=("cuda:0", "cuda:1"))
    costs = [(Row("m", name), cost) for name, cost in (("a", 1.0), ("b", 3.0), ("c", 2.0))]
    assert team.run(costs, lambda row, done: made.append((row.name, done))) == []
    assert sorted(made) == [("a", True), ("b", False), ("c", True)]
    assert (tmp_path / "b").read_text() == "b cuda 4\n" and (tmp_path / "c").read_text() == "c cuda 6\n"


def test_a_row_without_room_waits_for_the_others_on_its_device(tmp_path):
    """The large one fits only when nothing else runs; the largest never does."""
    script = f"""
import pathlib, sys, time
name, busy, over = sys.argv[1], *(pathlib.Path({str(tmp_path)!r}, state) for state in ("busy", "over"))
if name == "small":
    busy.touch()
    time.sleep(1)
    busy.rename(over)
    sys.exit()
while not (busy.exists() or over.exists()):
    time.sleep(0.01)
sys.exit(5 if busy.exists() or name == "largest" else 0)
"""
    made = []
    team = crew(tmp_path, script, end=time.monotonic() + 60, parallel=3)
    costs = [(Row("m", name), cost) for name, cost in (("small", 1.0), ("large", 2.0), ("largest", 3.0))]
    assert team.run(costs, lambda row, done: made.append((row.name, done))) == []
    assert made[0] == ("small", True) and sorted(made[1:]) == [("large", True), ("largest", False)]


def test_nothing_begins_that_will_not_end_in_time(tmp_path):
    team = crew(tmp_path, "", end=time.monotonic() + 50)
    team.pace.learn(10.0, 100.0)
    team.pace.learn(1.0, 20.0)
    made = []
    left = team.run([(Row("m", "long"), 9.0), (Row("m", "short"), 2.0)], lambda row, done: made.append(row.name))
    assert ([row.name for row in left], made) == (["long"], ["short"])


def test_pace_goes_by_the_most_similar_row():
    pace = Pace()
    assert pace.seconds(5.0) == 0
    pace.learn(1.0, 20.0)
    pace.learn(100.0, 10.0)
    pace.learn(100.0, 200.0)
    assert (pace.seconds(90.0), pace.seconds(200.0), pace.seconds(2.0)) == (200.0, 400.0, 40.0)


def scores(loss, drop):
    protocol = {"predictions": 511}
    integer = {"ppl_ratio": 1 + loss / 100, "kl": 0.1, "top1": 0.8}
    return {
        "float": {"ppl": 24.0},
        "integer": integer,
        "protocol": protocol,
        "settings": {"text": "wiki_squad"},
        "other_texts": {"brown": {"float": {"ppl": 30.0}, "integer": {**integer, "ppl_ratio": 1.5}}},
        "tasks": {"piqa": {"float": {"acc": 0.5, "docs": 9}, "integer": {"acc": 0.4, "acc_change": -drop / 100}}},
        "package": {"bits_per_weight": 4.9, "float_ops": 0, "sixteen_bit_down_inputs": 3},
        "run": {"seconds": {"package": 100.0}, "resumed": False, "device_peak_bytes": 2e9},
    }


def test_means_spreads_and_marks():
    found = [(Row("gemma3-270m", f"w4a8-fast{seed}"), scores(loss, 1)) for seed, loss in (("", 18.0), ("@1", 21.0))]
    lines = markdown("gemma3-270m", [*found, (Row("gemma3-270m", "w8a8-fast"), scores(1.0, 0.6))]).splitlines()
    assert "wiki_squad 24.00, brown 30.00; 511 predictions" in lines[2]
    (both,), (one,) = (
        [line for line in lines if line.startswith(f"| {name} |")] for name in ("w4a8-fast", "w8a8-fast")
    )
    assert "| 2 | 4.90 | +19.5 % (+18.0 … +21.0) ✓ | +50.0 % (+50.0 … +50.0) ✗ |" in both
    assert "-1.0 (-1.0 … -1.0) ✓" in both
    assert "| +1.0 % ✓ |" in one and "| -0.6 ✗ |" in one and one.endswith("| 3 | 2 min | 2 GB |")


def test_a_recipe_is_held_to_the_targets_of_its_width():
    named = {"w8a8-best": "w8a8", "w4a8-best": "w4a8", "w4g64a8-best": "w4g64a8"}
    named |= {"rotated-distilled-w4a8": STAGE_C, "rotated-distilled-w4g64a8": None}
    assert {name: column(Row("m", name).recipe) for name in named} == named
    assert all(set(targets) == {"w8a8", "w4a8", "w4g64a8", STAGE_C} for targets in TARGETS.values())


def test_committed_results_can_be_merged():
    for path in (Path(accuracy_table.HERE) / "results").glob("accuracy_*.json"):
        for row in json.loads(path.read_text()).values():
            assert {"float", "fake_quant", "integer", "other_texts", "package"} <= row.keys()
            assert row["package"].keys() >= {"bits_per_weight", "float_ops", "sixteen_bit_down_inputs"}
