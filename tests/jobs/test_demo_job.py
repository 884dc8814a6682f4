import json
from functools import partial

import pytest

from mobilequant.errors import UsageError
from mobilequant.jobs import demo as demo_module
from mobilequant.jobs.demo import prepare_demo
from mobilequant.jobs.evaluate import evaluate
from mobilequant.pipeline.recipe import Recipe, load_recipe


@pytest.fixture
def small(tiny_recipe, scoring_text, monkeypatch):
    """The demo on texts and sizes that take a second."""
    fields = load_recipe(tiny_recipe).model_dump()
    schemes = {"w8a8-fast": "static_w8c_a8_kv8", "w4a8-fast": "static_w4c_a8_kv8"}
    recipes = {name: Recipe.model_validate({**fields, "scheme": scheme}) for name, scheme in schemes.items()}
    monkeypatch.setattr(demo_module, "load_recipe", recipes.__getitem__)
    monkeypatch.setattr(demo_module, "evaluate", partial(evaluate, text=scoring_text))
    monkeypatch.setattr(demo_module, "PROMPT", "abc")
    for name, value in {"_SCORED_TOKENS": 62, "_WINDOW": 32, "_NEW_TOKENS": 4}.items():
        monkeypatch.setattr(demo_module, name, value)


def test_the_demo_leaves_packages_scores_and_a_report(small, tiny_checkpoint, tmp_path):
    out = tmp_path / "demo"
    findings = prepare_demo(out, model=str(tiny_checkpoint)).run()
    assert sorted(path.name for path in out.iterdir()) == [
        "demo.json",
        "report.html",
        "w4a8-fast",
        "w4a8-fast.eval.json",
        "w8a8-fast",
        "w8a8-fast.eval.json",
    ]
    page = (out / "report.html").read_text()
    assert "static_w4c_a8_kv8" in page
    assert "as loaded" in page
    assert len(findings.steps) == 9
    assert "RTN, min-max" in page
    assert findings.evaluations["w4a8-fast"]["integer"]["kl"] > findings.evaluations["w8a8-fast"]["integer"]["kl"]


def test_an_interrupted_demo_continues_with_what_is_done(small, tiny_checkpoint, tmp_path, monkeypatch):
    out = tmp_path / "demo"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(demo_module, "generate", _interrupt)
        prepare_demo(out, model=str(tiny_checkpoint)).run()
    with pytest.raises(UsageError):
        prepare_demo(out, model=str(tiny_checkpoint))
    saved = (out / "w8a8-fast.eval.json").stat().st_mtime_ns
    prepare_demo(out, model=str(tiny_checkpoint), resume=True).run()
    assert (out / "w8a8-fast.eval.json").stat().st_mtime_ns == saved
    assert not (out / "work").exists()


def test_force_begins_again_but_spares_foreign_folders(small, tiny_checkpoint, tmp_path):
    out = tmp_path / "demo"
    out.mkdir()
    (out / "thesis.txt").write_text("ten years")
    with pytest.raises(UsageError, match="other files"):
        prepare_demo(out, model=str(tiny_checkpoint), force=True)
    (out / "thesis.txt").unlink()
    (out / "demo.json").write_text(json.dumps({}))
    (out / "stale").write_text("from before")
    job = prepare_demo(out, model=str(tiny_checkpoint), force=True)
    assert (out / "stale").exists()
    job.run()
    assert not (out / "stale").exists()


def _interrupt(*args, **options):
    raise KeyboardInterrupt
