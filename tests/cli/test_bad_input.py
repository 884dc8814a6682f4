"""Bad input gets a clear error and nothing is lost: one test, through the command line, for every promise."""

import json
import shutil
import signal
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

from mobilequant.cli.main import main
from mobilequant.pipeline import resource

DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path):
    """A copy of the tiny checkpoint, to be damaged."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


@pytest.fixture
def refused(tiny_recipe, tmp_path, capsys):
    """Quantize, expect an exit code, and return what was said; no package and no work folder may be left."""

    def quantize(model, code, *options):
        out = tmp_path / "out"
        assert main(["quantize", str(model), "--recipe", str(tiny_recipe), "--out", str(out), *options]) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        assert not out.exists()
        assert not (tmp_path / "out.work").exists()
        return printed.err

    return quantize


def rewrite_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def rewrite_tensor(folder, name, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors[name])
    save_file(tensors, path)


def in_two_shards(folder):
    """Split the one file of a checkpoint as large models are split; returns the second file."""
    tensors = sorted(load_file(folder / "model.safetensors").items())
    (folder / "model.safetensors").unlink()
    parts = {"model-00001-of-00002.safetensors": tensors[:5], "model-00002-of-00002.safetensors": tensors[5:]}
    for file, part in parts.items():
        save_file(dict(part), folder / file)
    places = {name: file for file, part in parts.items() for name, _ in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder / "model-00002-of-00002.safetensors"


def rewrite_recipe(recipe, old, new):
    assert old in recipe.read_text()
    recipe.write_text(recipe.read_text().replace(old, new))


def test_unknown_model(refused):
    assert "smollm2-135m" in refused("smollm2-153m", 3)


def test_unknown_family_names_the_nearest_and_the_page(refused, checkpoint):
    rewrite_config(checkpoint, model_type="lama")
    said = refused(checkpoint, 3)
    assert "llama" in said
    assert "docs/guide/add-a-family.md" in said


def test_a_shape_that_groups_do_not_divide(refused, tiny_checkpoint, tiny_recipe):
    rewrite_recipe(tiny_recipe, "static_w8c_a8_kv8", "static_w4g7_a8_kv8")
    said = refused(tiny_checkpoint, 2)
    assert "which groups of 7 do not divide" in said
    assert "Use a group size of" in said


def test_a_missing_shard(refused, checkpoint):
    in_two_shards(checkpoint).unlink()
    assert "model-00002-of-00002.safetensors" in refused(checkpoint, 3)


def test_a_corrupt_shard(refused, checkpoint):
    shard = in_two_shards(checkpoint)
    shard.write_bytes(shard.read_bytes()[:-100])
    said = refused(checkpoint, 3)
    assert shard.name in said
    assert "truncated or damaged" in said


def test_a_truncated_gguf(refused, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + (2).to_bytes(8, "little") + (5).to_bytes(8, "little"))
    assert "model.gguf" in refused(path, 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(refused, checkpoint, value):
    rewrite_tensor(checkpoint, DOWN, lambda tensor: tensor[0, :1].fill_(value))
    said = refused(checkpoint, 3)
    assert DOWN in said
    assert "NaN or infinite" in said


@pytest.mark.parametrize(("content", "said"), [("", "is empty"), (" \n", "is empty"), ("a few words", "too short")])
def test_empty_or_too_short_calibration(
    refused, tiny_checkpoint, tiny_recipe, calibration_text, tmp_path, content, said
):
    (tmp_path / "text.txt").write_text(content)
    rewrite_recipe(tiny_recipe, str(calibration_text), str(tmp_path / "text.txt"))
    assert said in refused(tiny_checkpoint, 4)


def test_not_enough_disk(refused, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(resource.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1, 1, 0))
    assert "of disk" in refused(tiny_checkpoint, 5)


def test_not_enough_memory(refused, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(resource.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    assert "of memory, and 1 kB are free" in refused(tiny_checkpoint, 5)


def test_an_unknown_recipe_key_names_line_and_nearest_key(refused, tiny_checkpoint, tiny_recipe):
    rewrite_recipe(tiny_recipe, "methods:", "metods:")
    said = refused(tiny_checkpoint, 2)
    assert "line 4: unknown key 'metods'" in said
    assert "Did you mean 'methods'?" in said


def quantize(model, recipe, out, *options):
    return main(["quantize", str(model), "--recipe", str(recipe), "--out", str(out), *options])


def test_dead_channels_work_and_are_reported(checkpoint, tiny_recipe, tmp_path, capsys):
    rewrite_tensor(checkpoint, DOWN, lambda tensor: tensor[:, :3].zero_())
    rewrite_tensor(checkpoint, "model.layers.0.mlp.up_proj.weight", lambda tensor: tensor[:2].zero_())
    assert quantize(checkpoint, tiny_recipe, tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "layers.0: 2 channels are always zero" in said
    assert "layers.1: 3 channels are always zero" in said


def test_an_out_that_cannot_be_written(tiny_checkpoint, tiny_recipe, capsys):
    assert quantize(tiny_checkpoint, tiny_recipe, tiny_recipe / "out") == 5
    assert "cannot write" in capsys.readouterr().err


def test_an_out_with_other_files_is_never_replaced(tiny_checkpoint, tiny_recipe, tmp_path, capsys):
    assert quantize(tiny_checkpoint, tiny_recipe, tmp_path, "--force") == 2
    assert "holds other files" in capsys.readouterr().err
    assert tiny_recipe.exists()


def test_an_out_with_a_package_needs_force(tiny_checkpoint, tiny_recipe, tiny_package, tmp_path, capsys):
    out = shutil.copytree(tiny_package, tmp_path / "out")
    assert quantize(tiny_checkpoint, tiny_recipe, out) == 2
    assert "--force" in capsys.readouterr().err
    assert contents(out) == contents(tiny_package)
    assert quantize(tiny_checkpoint, tiny_recipe, out, "--force") == 0


def test_overlap_with_the_scoring_text(tiny_package, calibration_text, capsys):
    assert main(["eval", str(tiny_package), "--text", str(calibration_text), "--window", "32", "--tokens", "62"]) == 4
    assert "share a passage" in capsys.readouterr().err


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_command_resumes_to_the_same_bytes(tiny_checkpoint, tiny_recipe, tmp_path, kill):
    assert quantize(tiny_checkpoint, tiny_recipe, tmp_path / "straight") == 0
    out = tmp_path / "stopped"
    code, said = stop_while_rounding(kill, tiny_checkpoint, tiny_recipe, out)
    assert not out.exists()
    assert any((tmp_path / "stopped.work" / "units").rglob("*.safetensors"))
    if kill == signal.SIGINT:
        assert code == 130
        assert "--resume" in said
    else:
        assert code == -signal.SIGKILL
    assert quantize(tiny_checkpoint, tiny_recipe, out, "--resume") == 0
    assert contents(out) == contents(tmp_path / "straight")
    assert not (tmp_path / "stopped.work").exists()


# The command in a process of its own, which gets a real signal as soon as the second matrix has been rounded and kept.
STOPPED = """
import os, signal, sys
from mobilequant.cli.main import main
from mobilequant.pipeline.workspace import Workspace

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
save, rounded = Workspace.save, []

def save_and_stop(self, step, unit, result):
    save(self, step, unit, result)
    rounded.append(step.endswith("-rtn"))
    if sum(rounded) == 2:
        os.kill(os.getpid(), int(sys.argv[1]))

Workspace.save = save_and_stop
sys.exit(main(sys.argv[2:]))
"""


def stop_while_rounding(kill, model, recipe, out):
    arguments = [int(kill), "quantize", model, "--recipe", recipe, "--out", out]
    program = [sys.executable, "-c", STOPPED, *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stderr


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
