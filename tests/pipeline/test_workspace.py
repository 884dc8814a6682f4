import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.errors import CheckpointError, ResourceError, UsageError
from mobilequant.pipeline.method import Result
from mobilequant.pipeline.recipe import load_recipe
from mobilequant.pipeline.workspace import Run, Workspace, _file_name, open_workspace

RUN = Run("tiny", "a" * 64, "b" * 64, load_recipe("w8a8-fast"))


def start(folder, run=RUN, *, resume=False, force=False):
    return open_workspace(folder, run, resume=resume, force=force)


def test_saved_units_come_back(tmp_path):
    workspace = start(tmp_path / "work")
    assert workspace.load("rtn", "layers.0.q") is None
    workspace.save("rtn", "layers.0.q", Result(tensors={"t": torch.arange(3)}, measures={"mse": 0.1}))
    found = start(tmp_path / "work", resume=True).load("rtn", "layers.0.q")
    assert torch.equal(found.tensors["t"], torch.arange(3))
    assert found.measures == {"mse": 0.1}


def test_notes_come_back(tmp_path):
    workspace = start(tmp_path / "work")
    assert workspace.note("prefix") is None
    workspace.keep_note("prefix", [1, 2])
    assert workspace.note("prefix") == [1, 2]


def test_recipe_and_environment_are_recorded(tmp_path):
    start(tmp_path / "work")
    record = json.loads((tmp_path / "work" / "run.json").read_text())
    assert record["recipe"]["scheme"] == "static_w8c_a8_kv8"
    assert record["environment"]["packages"]["torch"]


def test_an_unfinished_run_is_not_lost_by_accident(tmp_path):
    start(tmp_path / "work").save("rtn", "model", Result())
    with pytest.raises(UsageError, match="--resume"):
        start(tmp_path / "work")
    assert start(tmp_path / "work", force=True).load("rtn", "model") is None


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Run("tiny", "c" * 64, "b" * 64, RUN.recipe), "model_sha256"),
        (Run("tiny", "a" * 64, "c" * 64, RUN.recipe), "text_sha256"),
        (Run("tiny", "a" * 64, "b" * 64, RUN.recipe.model_copy(update={"seed": 5})), "seed was 0, now 5"),
    ],
)
def test_resume_refuses_another_run(tmp_path, other, said):
    start(tmp_path / "work")
    with pytest.raises(UsageError, match=said):
        start(tmp_path / "work", other, resume=True)


def test_a_folder_with_other_files_is_never_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years")
    for resume, force in ((False, False), (True, False), (False, True)):
        with pytest.raises(UsageError, match="holds other files"):
            start(tmp_path, resume=resume, force=force)
    assert (tmp_path / "thesis.txt").read_text() == "ten years"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write"):
        start(tmp_path / "file" / "work")


def test_a_damaged_run_file_is_a_usage_error(tmp_path):
    start(tmp_path / "work")
    (tmp_path / "work" / "run.json").write_text("[]")
    with pytest.raises(UsageError, match="damaged"):
        start(tmp_path / "work", resume=True)


def test_a_damaged_unit_names_the_file(tmp_path):
    workspace = start(tmp_path / "work")
    workspace.save("rtn", "model", Result(tensors={"t": torch.arange(3)}))
    path = tmp_path / "work" / "units" / "rtn" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError) as caught:
        workspace.load("rtn", "model")
    assert str(path) in caught.value.remedy


@given(st.text(max_size=20), st.text(max_size=20))
def test_unit_names_make_safe_and_different_file_names(one, other):
    assert "/" not in _file_name(one)
    assert _file_name(one) not in (".", "..")
    assert (_file_name(one) == _file_name(other)) == (one == other)


# Writes unit after unit, and says so; a unit that is already there is not computed again.
WORKER = """
import sys, torch
from pathlib import Path
from mobilequant.pipeline.method import Result
from mobilequant.pipeline.recipe import load_recipe
from mobilequant.pipeline.workspace import Run, open_workspace
torch.set_num_threads(1)
run = Run("tiny", "a" * 64, "b" * 64, load_recipe("w8a8-fast"))
workspace = open_workspace(Path(sys.argv[1]), run, resume=True, force=False)
for unit in range(40):
    if workspace.load("rtn", f"layers.{unit}") is None:
        values = torch.randn(20_000, generator=torch.Generator().manual_seed(unit))
        workspace.save("rtn", f"layers.{unit}", Result(tensors={"t": values}))
    print(unit, flush=True)
"""


def run_worker(folder, kill_after=None):
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(folder)], stdout=subprocess.PIPE, text=True)
    for line in worker.stdout:
        if kill_after is not None and int(line) == kill_after:
            os.kill(worker.pid, signal.SIGKILL)
            break
    worker.stdout.close()
    return worker.wait()


def contents(folder):
    units = folder / "units" / "rtn"
    return {path.name: path.read_bytes() for path in units.glob("*.safetensors")}


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path):
    assert run_worker(tmp_path / "straight") == 0
    assert run_worker(tmp_path / "killed", kill_after=3) == -signal.SIGKILL
    assert 4 <= len(contents(tmp_path / "killed")) < 40
    assert run_worker(tmp_path / "killed") == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")
    assert isinstance(Workspace(tmp_path / "killed").load("rtn", "layers.39"), Result)


def test_a_damaged_note_names_the_file(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.keep_note("prefix", [1])
    (tmp_path / "notes" / "prefix.json").write_text("[1")
    with pytest.raises(CheckpointError, match=r"prefix\.json is damaged"):
        workspace.note("prefix")
