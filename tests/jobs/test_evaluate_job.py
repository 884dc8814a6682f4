import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mobilequant.cli.main import main
from mobilequant.data.task import Request
from mobilequant.errors import CheckpointError, DataError, PackageError, UsageError
from mobilequant.integer.package import write_manifest
from mobilequant.jobs import evaluate as evaluate_module
from mobilequant.jobs.evaluate import evaluate
from mobilequant.jobs.generate import generate
from mobilequant.jobs.inspect import inspect
from mobilequant.jobs.package import open_package
from mobilequant.jobs.quantize import quantize
from mobilequant.jobs.report import score_lines


def test_scores_stand_side_by_side(tiny_package, scoring_text):
    result = evaluate(tiny_package, text=scoring_text, window=32, tokens=310)
    assert result["float"]["kl"] == 0
    assert result["float"]["top1"] == 1
    assert 0 < result["integer"]["kl"] < 0.1
    assert abs(result["integer"]["ppl"] / result["fake_quant"]["ppl"] - 1) < 0.02
    assert result["protocol"]["predictions"] == 310
    assert "float_prefix" not in result
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_control_with_prefix_is_scored_too(tiny_checkpoint, tiny_recipe, scoring_text, tmp_path):
    tiny_recipe.write_text(tiny_recipe.read_text().replace("tokens: auto", "tokens: [256]"))
    package = quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "out")
    result = evaluate(package, text=scoring_text, window=32, tokens=62)
    assert result["float_prefix"]["kl"] > 0
    assert result["integer"]["ppl"] == pytest.approx(result["float_prefix"]["ppl"], rel=0.05)


def test_the_calibration_text_is_refused(tiny_package, calibration_text, tmp_path):
    with pytest.raises(DataError, match="share a passage"):
        evaluate(tiny_package, text=calibration_text, window=32, tokens=62)
    copy = tmp_path / "copy.txt"
    copy.write_text("before " + calibration_text.read_text()[100:400])
    with pytest.raises(DataError, match="share a passage"):
        evaluate(tiny_package, text=copy, window=32, tokens=62)


def test_a_copy_of_a_lost_calibration_text_is_refused(tiny_checkpoint, tiny_recipe, calibration_text, tmp_path):
    moved = tmp_path / "moved.txt"
    shutil.copyfile(calibration_text, moved)
    tiny_recipe.write_text(tiny_recipe.read_text().replace(str(calibration_text), str(moved)))
    package = quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "out")
    moved.unlink()
    with pytest.raises(DataError, match="tuned on"):
        evaluate(package, text=calibration_text, window=32, tokens=62)


def test_another_float_model_is_refused(tiny_package, tiny_checkpoint, scoring_text, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_checkpoint, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "rope_theta": 5.0}))
    weights = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights[:-4] + b"\0\0\0\0")
    with pytest.raises(CheckpointError, match="is not the model"):
        evaluate(tiny_package, text=scoring_text, window=32, tokens=62, model=other)


def test_zero_shot_tasks_stand_beside_the_text(tiny_package, scoring_text, monkeypatch, capsys):
    choices = [Request(n, ("the sky is",) * 2, (" blue", " made of cheese"), n % 2) for n in range(6)]
    words = [Request(n, ("once upon a",), (" time",), 0) for n in range(6)]
    monkeypatch.setattr(evaluate_module, "load_task", {"piqa": choices, "lambada": words}.__getitem__)
    given = ["--text", str(scoring_text), "--window", "32", "--tokens", "31", "--documents", "4"]
    assert main(["eval", str(tiny_package), *given, "--task", "piqa", "--task", "lambada"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("50.0 %") == 3
    assert shown.count("average") == 3
    found = evaluate(tiny_package, text=scoring_text, window=32, tokens=31, tasks=["piqa"], documents=6)["tasks"]
    assert found["piqa"].keys() == {"float", "fake_quant", "integer"}
    assert found["piqa"]["integer"]["docs"] == 6


def test_all_stands_for_every_task(tiny_package, scoring_text, monkeypatch, capsys):
    words = [Request(n, ("once upon a",) * 2, (" time", " hill"), 0) for n in range(3)]
    monkeypatch.setattr(evaluate_module, "load_task", lambda _name: words)
    given = ["--text", str(scoring_text), "--window", "32", "--tokens", "31", "--format", "json", "--documents", "2"]
    assert main(["eval", str(tiny_package), *given, "--task", "all"]) == 0
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    assert list(tasks) == ["piqa", "arc_easy", "hellaswag", "winogrande", "lambada", "average"]
    assert {found["docs"] for found in tasks["average"].values()} == {10}


def test_an_unknown_task_is_refused(tiny_package, scoring_text):
    with pytest.raises(UsageError, match="no task 'pica'"):
        evaluate(tiny_package, text=scoring_text, window=32, tokens=31, tasks=["pica"])


def test_at_least_one_window_is_scored(tiny_package, scoring_text):
    assert evaluate(tiny_package, text=scoring_text, window=32, tokens=1)["protocol"]["predictions"] == 31


def test_too_short_a_text_and_no_package(tiny_package, scoring_text, tmp_path):
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(DataError, match="too short"):
        evaluate(tiny_package, text=tmp_path / "short.txt", window=32, tokens=31)
    with pytest.raises(PackageError, match="not a MobileQuant package"):
        evaluate(tmp_path, text=scoring_text, window=32, tokens=62)


def rewrite_simulation(folder, change):
    """Change arrays and header, and make the manifest fit: what a damaged copy cannot be, but a stranger can do."""
    path = folder / "simulation.safetensors"
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["simulation"])
    tensors = load_file(path)
    change(header, tensors)
    save_file(tensors, path, metadata={"simulation": json.dumps(header)})
    write_manifest(folder, json.loads((folder / "package.json").read_text()))


SIMULATION_EDITS = {
    "no scheme": lambda header, tensors: header.pop("scheme"),
    "points that are no names": lambda header, tensors: header.update(sixteen_bit=[[1]]),
    "8-bit points that are no names": lambda header, tensors: header.update(eight_bit=[{}]),
    "a missing scale": lambda header, tensors: tensors.pop("scale.layers.0.q"),
    "too few scales": lambda header, tensors: tensors.update({"scale.layers.0.q": torch.ones(3)}),
    "a gain of another shape": lambda header, tensors: tensors.update({"real.final_norm.weight": torch.ones(3)}),
    "a gain of nothing": lambda header, tensors: tensors.update({"real.layers.9.q.weight": torch.ones(3)}),
    "a bias that is too long": lambda header, tensors: tensors.update({"real.layers.0.q.bias": torch.ones(99)}),
}


@pytest.mark.parametrize("edit", SIMULATION_EDITS)
def test_a_simulation_that_does_not_belong_to_the_graph(edit, tiny_package, scoring_text, tmp_path):
    package = shutil.copytree(tiny_package, tmp_path / "package")
    rewrite_simulation(package, SIMULATION_EDITS[edit])
    with pytest.raises(PackageError, match="cannot be read"):
        evaluate(package, text=scoring_text, window=32, tokens=62)


@pytest.mark.parametrize("name", ["weights.safetensors", "simulation.safetensors", "tokenizer.json", "README.md"])
def test_a_changed_byte_is_noticed(name, tiny_package, tmp_path):
    package = shutil.copytree(tiny_package, tmp_path / "package")
    content = bytearray((package / name).read_bytes())
    content[-1] ^= 1
    (package / name).write_bytes(content)
    with pytest.raises(PackageError, match=f"{name} was changed"):
        open_package(package)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"leading_token": "x"}, "leading_token"),
        ({"leading_token": 1.5}, "leading_token"),
        ({"leading_token": 260}, "outside the vocabulary"),
        ({"leading_token": -1}, "outside the vocabulary"),
        ({"model": "x"}, "model"),
        ({"calibration": {"text": 5, "sha256": ""}}, "calibration.text"),
        ({"scheme": [1]}, "scheme"),
        ({"scheme": "\x1b[2J"}, "cannot be printed"),
        ({"recipe_sha256": None}, "recipe_sha256"),
    ],
)
def test_a_manifest_that_tells_nonsense(fields, said, tiny_package, tmp_path):
    package = shutil.copytree(tiny_package, tmp_path / "package")
    path = package / "package.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(PackageError, match=said):
        open_package(package)


@pytest.mark.parametrize(("prefix", "longest"), [("[]", 129), ("[256]", 128)])
def test_windows_longer_than_the_context(tiny_checkpoint, tiny_recipe, tmp_path, scoring_text, prefix, longest):
    tiny_recipe.write_text(tiny_recipe.read_text().replace("tokens: auto", f"tokens: {prefix}"))
    package = quantize(tiny_checkpoint, recipe=tiny_recipe, out=tmp_path / "out")
    assert evaluate(package, text=scoring_text, window=longest, tokens=1)["protocol"]["window"] == longest
    with pytest.raises(UsageError) as caught:
        evaluate(package, text=scoring_text, window=longest + 1, tokens=1)
    assert f"--window {longest}" in caught.value.remedy


def test_an_unknown_device_is_refused(tiny_package, scoring_text):
    with pytest.raises(UsageError, match="device"):
        evaluate(tiny_package, text=scoring_text, device="toaster")
    with pytest.raises(UsageError, match="device"):
        generate(tiny_package, "abc", device="toaster")


def test_scores_travel_with_what_they_were_measured_on(tiny_package, scoring_text):
    found = json.loads(json.dumps(evaluate(tiny_package, text=scoring_text, window=32, tokens=62), allow_nan=False))
    assert {"model", "scheme", "settings", "config_hash", "hashes", "environment", "protocol"} <= set(found)
    assert found["protocol"]["predictions"] == 62
    *references, integer = score_lines({"preset": found})
    assert integer.bits_per_weight == inspect(tiny_package)["bits_per_weight"]
    assert integer.size_bytes == sum(inspect(tiny_package)["size_bytes"].values())
    assert not any(line.size_bytes for line in references)
