"""A recipe that names a text to train on, from its file to the scores of its package."""

import json
import random
import shutil

import pytest

from mobilequant.errors import DataError, UsageError
from mobilequant.jobs.evaluate import evaluate
from mobilequant.jobs.package import open_package
from mobilequant.jobs.quantize import prepare, quantize
from mobilequant.pipeline.recipe import load_recipe, parse_recipe, recipe_hash, recipe_yaml

METHODS = """\
  - rtn
  - mobilequant: {batch: 2, held_out: 2}
"""


@pytest.fixture(scope="module")
def training_text(tmp_path_factory):
    generator, path = random.Random(9), tmp_path_factory.mktemp("training") / "training.txt"
    path.write_text(" ".join("".join(generator.choices("abcdefghij", k=7)) for _ in range(80)))
    return path


@pytest.fixture
def training_recipe(tiny_recipe, training_text):
    text = tiny_recipe.read_text().replace("  - rtn\n", METHODS)
    tiny_recipe.write_text(f"{text}training: {{text: {training_text}, window: 16, count: 6, seed: 0}}\n")
    return tiny_recipe


def test_it_loads_and_is_part_of_what_is_hashed(training_recipe):
    recipe = load_recipe(training_recipe)
    assert (recipe.training.window, recipe.training.count) == (16, 6)
    without = recipe.model_copy(update={"training": None})
    longer = recipe.model_copy(update={"training": recipe.training.model_copy(update={"count": 7})})
    assert len({recipe_hash(each) for each in (recipe, without, longer)}) == 3
    assert all(parse_recipe(recipe_yaml(each), "again").recipe() == each for each in (recipe, without))


def test_a_wrong_key_is_named(training_recipe):
    training_recipe.write_text(training_recipe.read_text().replace("count: 6", "cuont: 6"))
    with pytest.raises(UsageError, match="cuont"):
        load_recipe(training_recipe)


def test_the_manifest_names_it_and_no_score_is_taken_on_it(
    tiny_checkpoint, training_recipe, training_text, calibration_text, scoring_text, tmp_path
):
    package = quantize(tiny_checkpoint, recipe=training_recipe, out=tmp_path / "out")
    about = open_package(package).about
    assert [each.text for each in about.texts()] == [str(calibration_text), str(training_text)]
    assert json.loads((package / "package.json").read_text())["training"]["sha256"] == about.training.sha256
    for text in (training_text, calibration_text):
        with pytest.raises(DataError, match="share a passage"):
            evaluate(package, text=text, window=32, tokens=62)
    assert evaluate(package, text=scoring_text, window=32, tokens=62)["integer"]["kl"] < 0.5


def test_a_copy_of_a_lost_training_text_is_refused(tiny_checkpoint, training_recipe, training_text, tmp_path):
    lost = shutil.copyfile(training_text, tmp_path / "lost.txt")
    training_recipe.write_text(training_recipe.read_text().replace(str(training_text), str(lost)))
    package = quantize(tiny_checkpoint, recipe=training_recipe, out=tmp_path / "out")
    lost.unlink()
    with pytest.raises(DataError, match="tuned on"):
        evaluate(package, text=training_text, window=32, tokens=62)


def test_a_resumed_run_must_train_on_the_same_text(tiny_checkpoint, training_recipe, training_text, tmp_path):
    mine = shutil.copyfile(training_text, tmp_path / "mine.txt")
    training_recipe.write_text(training_recipe.read_text().replace(str(training_text), str(mine)))
    request = {"recipe": training_recipe, "work_dir": tmp_path / "work", "resume": True}
    quantize(tiny_checkpoint, out=tmp_path / "one", **{**request, "resume": False})
    mine.write_text(mine.read_text() + " one more word")
    with pytest.raises(UsageError, match="training_sha256"):
        quantize(tiny_checkpoint, out=tmp_path / "two", **request)


def test_windows_and_texts_are_checked_before_any_work(tiny_checkpoint, training_recipe, tmp_path):
    recipe = load_recipe(training_recipe)
    for change, error, said in (
        ({"window": 128}, UsageError, "128 tokens for training"),
        ({"count": 1000}, DataError, "too short"),
        ({"text": "sotuu"}, DataError, "sotuu"),
    ):
        training = recipe.training.model_copy(update=change)
        with pytest.raises(error, match=said):
            prepare(tiny_checkpoint, recipe.model_copy(update={"training": training}), out=tmp_path / "out")


def test_too_few_windows_to_train_on_are_told_with_the_number(tiny_checkpoint, training_recipe, tmp_path):
    training_recipe.write_text(training_recipe.read_text().replace("held_out: 2", "held_out: 5"))
    with pytest.raises(DataError, match="at least 7 training windows, 5 of them held out, and has 6") as caught:
        quantize(tiny_checkpoint, recipe=training_recipe, out=tmp_path / "out")
    assert "training.count" in caught.value.remedy
