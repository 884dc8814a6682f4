"""A run that takes over what another has finished ends in the bytes that it would have made alone."""

from dataclasses import replace

import pytest

from mobilequant.jobs import quantize as quantize_module
from mobilequant.jobs.quantize import prepare
from mobilequant.jobs.shared_work import nearest, shared_steps
from mobilequant.methods import run as run_module
from mobilequant.methods.sixteen_bit.method import SixteenBit
from mobilequant.pipeline.recipe import Recipe, load_recipe

PREPARING = [{"center": {}}, {"smoothquant": {"alpha": 0.5}}, {"ranges": {"estimator": "minmax"}}]
CHOICE = {"sixteen_bit": {"fraction_of_down": 0.5, "remove": ("scores", "o"), "max_kl_increase": 0.05}}
PREPARING.append(CHOICE)
ALL = {"0-center", "1-smoothquant", "2-ranges", "3-sixteen_bit"}


@pytest.fixture
def job(tiny_checkpoint, tiny_recipe, tmp_path):
    def make(name, methods=(*PREPARING, "rtn"), seed=0, **changes):
        fields = {**load_recipe(tiny_recipe).model_dump(), "methods": methods, "seed": seed, **changes}
        recipe = Recipe.model_validate(fields)
        return prepare(tiny_checkpoint, recipe, out=tmp_path / name, work_dir=tmp_path / f"{name}.work")

    return make


def forbidden(*args, **options):
    raise AssertionError("computed again")


def test_what_two_schemes_share_is_done_once_and_changes_no_byte(job, monkeypatch):
    four_bits = {"methods": (*PREPARING, "gptq"), "scheme": "static_w4g8_a8_kv8"}
    alone = job("alone", **four_bits).run().package
    first, second = job("first"), job("second", **four_bits)
    first.run()
    for module, name in [(run_module, "collect"), (quantize_module, "find_prefix")]:
        monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr(SixteenBit, "apply", forbidden)
    taken_over = second.run(after=first).package
    for file in alone.iterdir():
        assert (taken_over / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize(
    ("changes", "found_again"),
    [
        ({"methods": (*PREPARING[1:], "rtn")}, False),
        ({"seed": 1}, False),
        ({"data": {"count": 3}}, True),
        ({"prefix": {"max_tokens": 3}}, True),
    ],
)
def test_a_prefix_that_was_looked_for_alike_is_taken_over(job, calibration_text, monkeypatch, changes, found_again):
    if "data" in changes:
        changes = {"data": {"text": str(calibration_text), "window": 24, "seed": 0, **changes["data"]}}
    first, second = job("first"), job("second", **changes)
    first.run()
    monkeypatch.setattr(quantize_module, "find_prefix", forbidden)
    if found_again:
        with pytest.raises(AssertionError, match="computed again"):
            second.run(after=first)
    else:
        second.run(after=first)


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({}, ALL | {"4-rtn"}),
        ({"methods": (*PREPARING, "rtn", "mobilequant")}, ALL | {"4-rtn"}),
        ({"methods": (*PREPARING, "gptq")}, ALL),
        ({"training": True}, ALL),
        ({"scheme": "static_w4c_a8_kv8", "methods": (*PREPARING, "gptq")}, ALL),
        ({"methods": (*PREPARING[:3], "sixteen_bit", "rtn")}, ALL - {"3-sixteen_bit"}),
        ({"methods": (*PREPARING[:3], "rtn", CHOICE)}, ALL - {"3-sixteen_bit"}),
        ({"methods": (PREPARING[0], {"smoothquant": {"alpha": 0.8}}, *PREPARING[2:], "rtn")}, {"0-center"}),
        ({"methods": (*PREPARING[1:], "rtn")}, set()),
        ({"methods": (*PREPARING[:2], "rtn", PREPARING[2])}, {"0-center", "1-smoothquant"}),
        ({"prefix": {"tokens": (3,)}}, set()),
        ({"seed": 1}, set()),
        ({"sixteen_bit": {"points": ("layers.0.up",)}}, set()),
        ({"data": {"count": 3}}, set()),
    ],
)
def test_only_what_is_equal_is_shared(job, calibration_text, changes, shared):
    if "training" in changes:
        changes = {"training": {"text": str(calibration_text), "window": 24, "count": 8, "seed": 0}}
    if "data" in changes:
        changes = {"data": {"text": str(calibration_text), "window": 24, "seed": 0, **changes["data"]}}
    assert shared_steps(job("first"), job("second", **changes)) == shared


def test_another_model_shares_nothing(job, tmp_path):
    first, second = job("first"), job("second")
    name, tensor = next(iter(second.model.tensors.items()))
    object.__setattr__(second, "model", second.model.with_tensors({name: tensor + 1}))
    assert shared_steps(first, second) == frozenset()


def test_the_job_that_spares_the_most_is_the_nearest(job, monkeypatch):
    later = job("later", methods=(*PREPARING, "gptq"))
    changed = [{"prefix": {"tokens": (3,)}}, {"seed": 1}, {"methods": (PREPARING[0], "rtn")}, {}]
    recipes = [job(f"{number}", **changes) for number, changes in enumerate(changed)]
    monkeypatch.setattr(quantize_module, "model_sha256", forbidden)  # one model, held once, needs no digest
    jobs = [replace(each, model=later.model) for each in recipes]
    assert nearest([], later) is None
    for count in range(1, len(jobs) + 1):
        assert nearest(jobs[:count], later) is jobs[count - 1]
        assert nearest(jobs[count - 1 :: -1], later) is jobs[count - 1]
