import json
import platform
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mobilequant.errors import CheckpointError, DataError, ResourceError, UsageError
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.package import verify_files, write_manifest
from mobilequant.jobs import quantize as quantize_module
from mobilequant.jobs.executor import fake_quant_executor
from mobilequant.jobs.inspect import inspect
from mobilequant.jobs.package import open_package
from mobilequant.jobs.quantize import prepare, quantize
from mobilequant.jobs.simulation import load_simulation
from mobilequant.models.sources.resolver import resolve
from mobilequant.pipeline import resource
from mobilequant.pipeline.lock import locked
from mobilequant.pipeline.recipe import Recipe, load_recipe, recipe_hash
from mobilequant.pipeline.workspace import Workspace

TOKENS = torch.tensor([[5, 40, 80, 3, 17, 9, 200, 31]])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_package_holds_everything_and_its_hashes_are_right(tiny_checkpoint, tiny_recipe, tmp_path):
    out = quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "out")
    verify_files(out)
    manifest = json.loads((out / "package.json").read_text())
    assert manifest["recipe_sha256"] == recipe_hash(load_recipe(tiny_recipe))
    assert load_recipe(out / "recipe.yaml") == load_recipe(tiny_recipe)
    assert {"README.md", "graph.json", "weights.safetensors", "simulation.safetensors", "tokenizer.json"} <= set(
        contents(out)
    )
    assert not (tmp_path / "out.work").exists()


def test_only_manifest_and_recipe_tell_where_local_files_lie(tiny_package, tiny_checkpoint, calibration_text):
    model, text = str(tiny_checkpoint), str(calibration_text)
    places = (model, text, str(tiny_package.parent), platform.node())
    told = {
        name: [place for place in places if place.encode() in data] for name, data in contents(tiny_package).items()
    }
    assert {name: found for name, found in told.items() if found} == {
        "package.json": [model, text],
        "recipe.yaml": [text],
    }
    assert tiny_checkpoint.name in (tiny_package / "README.md").read_text()


def test_the_same_request_gives_the_same_bytes(tiny_checkpoint, tiny_recipe, tmp_path):
    one, other = (quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / name) for name in ("one", "other"))
    assert contents(one) == contents(other)


def test_the_integer_model_follows_its_simulation(tiny_checkpoint, tiny_recipe, tmp_path):
    package = open_package(quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "out"))
    quantized = load_simulation(package.folder, package.graph, resolve(str(tiny_checkpoint)))
    simulated = fake_quant_executor(quantized, None)(TOKENS)
    integer = Interpreter(package.graph).logits(TOKENS)
    assert (simulated - integer).abs().mean() < 0.05 * simulated.std()


@pytest.mark.parametrize("scheme", ["static_w4c_a8_kv8", "static_w4g8_a8_kv8"])
def test_four_bits_by_gptq_come_through_to_the_integers(tiny_checkpoint, tiny_recipe, tmp_path, scheme):
    fields = load_recipe(tiny_recipe).model_dump()
    methods = [{"smoothquant": {}}, {"ranges": {"estimator": "minmax"}}, "gptq"]
    recipe = Recipe.model_validate({**fields, "scheme": scheme, "methods": methods})
    package = open_package(quantize(tiny_checkpoint, recipe=recipe, out=tmp_path / "out"))
    assert package.graph.constants["layers.0.down.codes"].dtype == "int4"
    quantized = load_simulation(package.folder, package.graph, resolve(str(tiny_checkpoint)))
    simulated = fake_quant_executor(quantized, None)(TOKENS)
    assert (simulated - Interpreter(package.graph).logits(TOKENS)).abs().mean() < 0.05 * simulated.std()


def test_the_simulation_comes_back_exactly(tiny_checkpoint, tiny_recipe, tmp_path):
    recipe = load_recipe(tiny_recipe).model_copy(update={"scheme": "static_w4g8_a8_kv8"})
    outcome = prepare(tiny_checkpoint, recipe, out=tmp_path / "out").run()
    package = open_package(outcome.package)
    again = load_simulation(package.folder, package.graph, resolve(str(tiny_checkpoint)))
    before, after = (fake_quant_executor(quantized, None)(TOKENS) for quantized in (outcome.quantized, again))
    assert torch.equal(before, after)
    assert again.scheme == outcome.quantized.scheme
    assert again.activations == outcome.quantized.activations


def test_removed_islands_come_back_with_the_package(tiny_checkpoint, tiny_recipe, tmp_path):
    fields = load_recipe(tiny_recipe).model_dump()
    choice = {"sixteen_bit": {"fraction_of_down": 0.5, "remove": ["scores", "o", "down"], "max_kl_increase": 9.0}}
    recipe = Recipe.model_validate({**fields, "methods": [{"ranges": {"estimator": "minmax"}}, choice, "rtn"]})
    outcome = prepare(tiny_checkpoint, recipe, out=tmp_path / "out").run()
    package, found = open_package(outcome.package), inspect(outcome.package)
    removed = [f"layers.{layer}.{role}" for layer in range(2) for role in ("down", "o", "scores")]
    assert package.about.eight_bit == found["eight_bit_islands"] == removed
    assert not set(removed) & set(found["sixteen_bit"])
    again = load_simulation(package.folder, package.graph, resolve(str(tiny_checkpoint)))
    assert again.scheme == outcome.quantized.scheme
    before, after = (fake_quant_executor(quantized, None)(TOKENS) for quantized in (outcome.quantized, again))
    assert torch.equal(before, after)
    assert (after - Interpreter(package.graph).logits(TOKENS)).abs().mean() < 0.05 * after.std()


def test_a_package_from_before_islands_could_go_is_read(tiny_package, tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_package, tmp_path / "old")
    manifest = json.loads((folder / "package.json").read_text())
    del manifest["eight_bit"]
    with safe_open(folder / "simulation.safetensors", "pt") as file:
        header = json.loads(file.metadata()["simulation"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    del header["eight_bit"]
    save_file(tensors, folder / "simulation.safetensors", metadata={"simulation": json.dumps(header)})
    write_manifest(folder, manifest)
    package = open_package(folder)
    assert inspect(folder)["eight_bit_islands"] == []
    old = load_simulation(folder, package.graph, resolve(str(tiny_checkpoint)))
    assert old.scheme.sixteen_bit == set(package.about.sixteen_bit) and old.scheme.eight_bit == frozenset()


def test_a_given_prefix_is_in_the_package(tiny_checkpoint, tiny_recipe, tmp_path):
    fields = load_recipe(tiny_recipe).model_dump()
    recipe = Recipe.model_validate({**fields, "prefix": {"tokens": [256, 7]}})
    package = open_package(quantize(tiny_checkpoint, recipe=recipe, out=tmp_path / "out"))
    assert package.graph.prefix_tokens == (256, 7)
    assert package.graph.num_prefix == 2


def test_an_interrupted_run_resumes_to_the_same_bytes(tiny_checkpoint, tiny_recipe, tmp_path, monkeypatch):
    straight = quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "straight")
    saved = []

    class Killed(BaseException):
        pass

    def save_some(self, step, unit, result):
        if len(saved) == 5:
            raise Killed
        saved.append(unit)
        original(self, step, unit, result)

    original = Workspace.save
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Workspace, "save", save_some)
        quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "killed")
    assert not (tmp_path / "killed").exists()
    with pytest.raises(UsageError, match="--resume"):
        quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "killed")
    resumed = quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "killed", resume=True)
    assert contents(resumed) == contents(straight)


def test_resume_with_another_recipe_is_refused(tiny_checkpoint, tiny_recipe, tmp_path):
    request = {"recipe": tiny_recipe, "work_dir": tmp_path / "work"}
    quantize(tiny_checkpoint, out=tmp_path / "one", **request)
    with pytest.raises(UsageError, match="seed was 0, now 7"):
        quantize(tiny_checkpoint, out=tmp_path / "two", seed=7, resume=True, **request)


def test_a_dry_run_writes_nothing(tiny_checkpoint, tiny_recipe, tmp_path):
    before = sorted(tmp_path.iterdir())
    quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "out", dry_run=True)
    assert sorted(tmp_path.iterdir()) == before


def test_a_package_is_replaced_only_with_force(tiny_checkpoint, tiny_recipe, tmp_path):
    out = quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "out")
    with pytest.raises(UsageError, match="already holds a package"):
        quantize(tiny_checkpoint, recipe=tiny_recipe, out=out)
    quantize(tiny_checkpoint, recipe=tiny_recipe, out=out, seed=1, force=True)
    assert json.loads((out / "package.json").read_text())["recipe_sha256"] != recipe_hash(load_recipe(tiny_recipe))


def test_too_little_disk_is_told_before_anything_is_written(tiny_checkpoint, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(resource.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(ResourceError, match="of disk at"):
        quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.work").exists()


def test_a_failure_in_the_last_step_leaves_no_package(tiny_checkpoint, tiny_recipe, tmp_path, monkeypatch):
    def disk_full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quantize_module, "write_package", disk_full)
    with pytest.raises(ResourceError, match="No space left"):
        quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.work" / "run.json").exists()


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"methods": [{"rnt": {}}]}, UsageError, "unknown method 'rnt'"),
        ({"methods": [{"smoothquant": {"alhpa": 1}}]}, UsageError, "alhpa"),
        ({"data": {"text": "sotuu", "window": 24}}, DataError, "sotuu"),
        ({"sixteen_bit": {"points": ["layers.0.prodcut"]}}, UsageError, "Did you mean 'layers.0.product'"),
        ({"prefix": {"tokens": [260]}}, UsageError, "names the token 260"),
        ({"data": {"window": 128}}, UsageError, "context of 128"),
    ],
)
def test_bad_requests_are_refused_early(tiny_checkpoint, tiny_recipe, tmp_path, fields, error, said):
    recipe = Recipe.model_validate({**load_recipe(tiny_recipe).model_dump(), **fields})
    with pytest.raises(error, match=said):
        quantize(tiny_checkpoint, recipe=recipe, out=tmp_path / "out")


def test_too_short_a_text_is_refused(tiny_checkpoint, tiny_recipe, tmp_path):
    (tmp_path / "short.txt").write_text("too short")
    recipe = Recipe.model_validate(
        {**load_recipe(tiny_recipe).model_dump(), "data": {"text": str(tmp_path / "short.txt"), "window": 24}}
    )
    with pytest.raises(DataError, match="too short"):
        quantize(tiny_checkpoint, recipe=recipe, out=tmp_path / "out")


def test_both_preset_and_recipe_are_refused(tiny_checkpoint, tiny_recipe, tmp_path):
    with pytest.raises(UsageError, match="both"):
        quantize(tiny_checkpoint, preset="w8a8-fast", recipe=tiny_recipe, out=tmp_path / "out")


def test_unknown_models_and_devices_are_refused(tiny_checkpoint, tiny_recipe, tmp_path):
    with pytest.raises(CheckpointError, match="smolm2"):
        quantize("smolm2-135m", recipe=tiny_recipe, out=tmp_path / "out")
    with pytest.raises(UsageError, match="device"):
        quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "out", device="toaster")


def test_a_run_that_is_at_work_is_left_alone(tiny_checkpoint, tiny_recipe, tmp_path):
    request = {"recipe": tiny_recipe, "work_dir": tmp_path / "work"}
    with locked(tmp_path / "work"):
        for options in ({}, {"resume": True}, {"force": True}):
            with pytest.raises(UsageError, match="another run is at work"):
                quantize(tiny_checkpoint, out=tmp_path / "out", **request, **options)
    with locked(tmp_path / ".out.partial"), pytest.raises(UsageError, match="another run is at work"):
        quantize(tiny_checkpoint, out=tmp_path / "out", **request)
    assert (quantize(tiny_checkpoint, out=tmp_path / "out", resume=True, **request) / "package.json").exists()


@pytest.mark.parametrize(
    ("out", "work", "said"),
    [
        ("both", "both", "overlap"),
        ("out", "out/work", "overlap"),
        ("work/out", "work", "overlap"),
        (".", None, "a name"),
        ("..", None, "a name"),
        ("/", None, "a name"),
    ],
)
def test_places_that_would_swallow_each_other(tiny_checkpoint, tiny_recipe, tmp_path, monkeypatch, out, work, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        quantize(tiny_checkpoint, recipe=tiny_recipe, out=out, work_dir=work)
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == [tiny_recipe]


def test_a_seed_out_of_range(tiny_checkpoint, tiny_recipe, tmp_path):
    with pytest.raises(UsageError, match="seed"):
        quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "out", seed=1 << 63)
