"""Training text that the model writes itself. This file is also the program that torchrun starts: see its end."""

import hashlib
import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from interruption import KilledError, killing
from mobilequant.data import text as text_module
from mobilequant.data.text import make_text
from mobilequant.errors import DataError, UsageError
from mobilequant.jobs import self_generated as self_generated_module
from mobilequant.jobs.evaluate import evaluate
from mobilequant.jobs.package import open_package
from mobilequant.jobs.plan import plan_quantize
from mobilequant.jobs.quantize import prepare, quantize
from mobilequant.jobs.self_generated import SelfGenerated, self_generated
from mobilequant.jobs.writing_plan import windows_at_once, writing_cost
from mobilequant.models.kv_cache import KVCache
from mobilequant.models.sources.resolver import resolve
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline import parallel
from mobilequant.pipeline.checkpoint import InMemory, NoCheckpoint
from mobilequant.pipeline.progress import silent
from mobilequant.pipeline.recipe import CalibrationData, MethodEntry, load_recipe
from processes import in_two

MODEL = tiny_model("llama")
DATA = CalibrationData(text="self_generated", window=24, count=7, seed=3)
IDS = tuple(range(90, 60, -1))  # falling, as no separator is
TO_WRITE = SelfGenerated(DATA, make_text("openings", ["some text"]), IDS, (50, 51), frozenset({0, 1, 2, 3}), None)
METHODS = "  - rtn\n  - mobilequant: {batch: 2, held_out: 2}\n"


@pytest.fixture
def two_at_once(monkeypatch):
    monkeypatch.setattr(self_generated_module, "windows_at_once", lambda *_: 2)


@pytest.fixture
def openings(tmp_path, monkeypatch):
    """A small text in the place of the built-in one."""
    documents = ["".join(chr(97 + (7 * i * i + number) % 26) for i in range(400)) for number in range(5)]
    monkeypatch.setitem(text_module.CORPORA, "broad", lambda: documents)
    path = tmp_path / "openings.txt"
    path.write_text("\n\n".join(documents))
    return path


@pytest.fixture
def recipe(tiny_recipe):
    text = tiny_recipe.read_text().replace("  - rtn\n", METHODS)
    tiny_recipe.write_text(f"{text}training: {{text: self_generated, window: 24, count: 6, seed: 0}}\n")
    return tiny_recipe


def windows(to_write=TO_WRITE, checkpoint=None, track=silent):
    return to_write.sample(MODEL, checkpoint or NoCheckpoint(), track).windows


def beginning(window):
    """The tokens of an opening: a stretch of the falling ids."""
    length = next(place for place in range(1, len(window)) if window[place] != window[place - 1] - 1)
    return window[:length]


def test_windows_begin_with_up_to_sixteen_tokens_from_anywhere_in_the_text():
    many = windows(replace(TO_WRITE, data=DATA.model_copy(update={"count": 200}))).tolist()
    found = [beginning(window) for window in many]
    assert all(set(each) <= set(IDS) for each in found)
    assert max(map(len, found)) >= 16 and {1, 2, 3} <= set(map(len, found))
    assert len({each[0] for each in found}) > 20


def test_bos_leads_every_window_and_the_separator_every_later_document():
    ends = frozenset(range(0, 96, 4))  # what is seen of them was given
    found = windows(replace(TO_WRITE, leading=1, ends=ends, separator=(52, 56), ids=(88,) * 20)).tolist()
    assert all(window[:2] == [1, 88] for window in found)
    followers = {(one, other) for window in found for one, other in pairwise(window) if one in ends}
    assert {other for one, other in followers if one == 52} == {56}
    assert {other for one, other in followers if one == 56} == {88}
    assert {token for window in found for token in window} & ends == {52, 56, 88}


def test_the_seed_alone_decides_and_not_how_many_are_written_at_once(two_at_once):
    few_at_once = windows()
    assert torch.equal(few_at_once, windows(replace(TO_WRITE)))
    others = windows(replace(TO_WRITE, data=DATA.model_copy(update={"seed": 4})))
    assert (others != few_at_once).float().mean() > 0.5
    more = windows(replace(TO_WRITE, data=DATA.model_copy(update={"count": 9})))
    assert torch.equal(more[:7], few_at_once)


def test_batches_are_no_part_of_the_result(monkeypatch):
    found = []
    for size in (1, 3, 100):
        monkeypatch.setattr(self_generated_module, "windows_at_once", lambda *_, size=size: size)
        found.append(windows())
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_after_a_kill_nothing_is_written_twice(two_at_once, monkeypatch):
    checkpoint, calls = InMemory(frozenset({"training text"})), []
    write = self_generated_module.write
    monkeypatch.setattr(self_generated_module, "write", lambda *given: calls.append(len(given[1])) or write(*given))
    with pytest.raises(KilledError):
        windows(checkpoint=checkpoint, track=killing(after=2))
    assert calls == [2, 2]
    resumed = windows(checkpoint=checkpoint)
    assert calls == [2, 2, 2, 1]
    assert torch.equal(resumed, windows()) and torch.equal(resumed, windows(checkpoint=checkpoint))
    assert calls == [2, 2, 2, 1, 2, 2, 2, 1]


def program(folder):
    """What torchrun starts twice: seven windows, two at once, so that the processes have two batches each."""
    self_generated_module.windows_at_once = lambda *_: 2
    torch.set_num_threads(1)
    with parallel.joined("cpu"):
        torch.save(windows(), folder / f"{parallel.rank()}.pt")


def test_two_processes_write_what_one_would(tmp_path, two_at_once):
    in_two(__file__, tmp_path, check=True)
    for rank in (0, 1):
        assert torch.equal(torch.load(tmp_path / f"{rank}.pt"), windows())


def test_a_package_tells_what_it_was_trained_on(tiny_checkpoint, recipe, openings, scoring_text, tmp_path):
    package = quantize(tiny_checkpoint, recipe=recipe, out=tmp_path / "out")
    told = json.loads((package / "package.json").read_text())["training"]
    model = resolve(str(tiny_checkpoint))
    written = self_generated(model, load_recipe(recipe).training).sample(model, NoCheckpoint()).windows
    expected = hashlib.sha256(written.numpy().astype("<i4").tobytes()).hexdigest()
    assert (told["text"], told["sha256"], told["openings"]["text"]) == ("self_generated", expected, "broad")
    assert [each.text for each in open_package(package).about.texts()][1:] == ["broad"]
    with pytest.raises(DataError, match=r"broad and scoring text .* share a passage"):
        evaluate(package, text=openings, window=32, tokens=62)
    assert evaluate(package, text=scoring_text, window=32, tokens=62)["integer"]["kl"] < 0.5


def test_a_killed_run_goes_on_with_what_was_written(tiny_checkpoint, recipe, openings, tmp_path, monkeypatch):
    request = {"recipe": recipe, "work_dir": tmp_path / "work"}
    whole = quantize(tiny_checkpoint, recipe=recipe, out=tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr("mobilequant.jobs.quantize.find_prefix", _kill)
        quantize(tiny_checkpoint, out=tmp_path / "out", **request)
    monkeypatch.setattr(self_generated_module, "write", _kill)
    resumed = quantize(tiny_checkpoint, out=tmp_path / "out", resume=True, **request)
    assert (resumed / "package.json").read_bytes() == (whole / "package.json").read_bytes()


def _kill(*_, **__):
    raise KilledError


def test_a_model_without_a_tokenizer_cannot_be_given_openings(openings):
    with pytest.raises(UsageError, match="no tokenizer"):
        self_generated(MODEL, DATA)


def test_windows_that_the_model_cannot_hold_are_refused_before_any_work(tiny_checkpoint, recipe, openings, tmp_path):
    recipe.write_text(recipe.read_text().replace("window: 24, count: 6", "window: 128, count: 6"))
    with pytest.raises(UsageError, match="128 tokens for training"):
        prepare(tiny_checkpoint, load_recipe(recipe), out=tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("text: self_generated, window: 24, count: 6, seed: 0", "text: self_generated, seed: null", "give a seed"),
        ("data: {text: ", "data: {text: self_generated} #", "take ranges from a text"),
        ("count: 6, seed: 0", "count: 1000000, seed: 0", "less than or equal to 65536"),
    ],
)
def test_recipes_that_make_no_sense(recipe, old, new, said):
    recipe.write_text(recipe.read_text().replace(old, new))
    with pytest.raises(UsageError, match=said):
        load_recipe(recipe)


def test_the_plan_counts_the_writing():
    preset, arch = load_recipe("w4a8-fast"), MODEL.arch
    methods = (*preset.methods, MethodEntry(name="mobilequant", options={"batch": 2, "held_out": 2}))
    data = CalibrationData(text="broad", window=512, count=4096)
    for device in ("cpu", "cuda"):
        read, written, more = (
            plan_quantize(
                arch,
                preset.model_copy(update={"methods": methods, "training": data.model_copy(update=change)}),
                1e12,
                device,
            )
            for change in ({}, {"text": "self_generated"}, {"text": "self_generated", "count": 8192})
        )
        assert read.time_s < written.time_s < more.time_s
        assert written.work_bytes - read.work_bytes == 4 * 512 * 4096


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_memory_is_that_of_the_cache_and_the_last_logits(family):
    model = tiny_model(family)
    planned = writing_cost(model.arch, DATA, "cpu").memory_bytes
    cache = KVCache(model, DATA.count, DATA.window)
    held = sum(each.nbytes for each in vars(cache).values() if isinstance(each, torch.Tensor))
    logits = DATA.count * model.arch.vocab_size * (4 + 4 + 8)
    assert held + logits <= planned <= 2 * (held + logits)


def test_large_models_write_fewer_windows_at_once():
    small, large = (replace(MODEL.arch, num_kv_heads=heads, head_dim=128) for heads in (4, 4096))
    assert windows_at_once(small, 512, "cpu") < windows_at_once(small, 512, "cuda")
    assert 1 <= windows_at_once(large, 512, "cuda") < windows_at_once(small, 512, "cuda")
    assert windows_at_once(large, 32768, "cpu") == 1


if __name__ == "__main__":
    program(Path(sys.argv[1]))
