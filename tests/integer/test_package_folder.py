"""The folder around the arrays: its manifest, sizes, links and pipes are judged before anything is read."""

import os
from types import SimpleNamespace

import pytest

from mobilequant.errors import PackageError, ResourceError
from mobilequant.integer.package import GRAPH, MANIFEST, WEIGHTS, read_manifest, verify_files
from mobilequant.pipeline import resource


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, MANIFEST])
def test_a_file_of_absurd_size_is_not_read(name, package, edit_json):
    os.truncate(package / name, 1 << 40)  # takes no disk
    if name != MANIFEST:
        edit_json(package / MANIFEST, lambda manifest: manifest["files"][name].update(bytes=1 << 40))
    with pytest.raises(ResourceError if name == WEIGHTS else PackageError, match=r"more than|TB of memory"):
        verify_files(package)


def test_a_tokenizer_that_no_manifest_lists_has_a_sane_size_too(package):
    (package / "tokenizer.json").touch()
    os.truncate(package / "tokenizer.json", 1 << 40)
    with pytest.raises(PackageError, match="more than"):
        verify_files(package)


def test_weights_that_do_not_fit_into_memory(package, monkeypatch):
    monkeypatch.setattr(resource.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(ResourceError, match=f"reading {package}"):
        read_manifest(package)


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, "tokenizer.json"])
def test_links_that_lead_out_of_the_package(name, package, original):
    (package / name).unlink(missing_ok=True)
    (package / name).symlink_to(original("llama") / GRAPH if name == "tokenizer.json" else original("llama") / name)
    with pytest.raises(PackageError, match="leads out"):
        read_manifest(package)


def test_links_inside_the_package_are_files_like_others(package):
    (package / "real.json").write_bytes((package / GRAPH).read_bytes())
    (package / GRAPH).unlink()
    (package / GRAPH).symlink_to("real.json")
    verify_files(package)
    (package / "loop").symlink_to("loop")
    read_manifest(package)


@pytest.mark.parametrize("name", [MANIFEST, GRAPH])
def test_a_pipe_is_no_file(name, package):
    (package / name).unlink()
    os.mkfifo(package / name)
    with pytest.raises(PackageError):
        read_manifest(package)


MANIFEST_EDITS = {
    "another version": (lambda m: m.update(version=2), "version 2"),
    "a version that is true": (lambda m: m.update(version=True), "version"),
    "another format": (lambda m: m.update(format="zip"), "format"),
    "no files": (lambda m: m.update(files={}), "does not list"),
    "files as a list": (lambda m: m.update(files=[GRAPH, WEIGHTS]), "does not list"),
    "a file above": (lambda m: m["files"].update({"../secret": {"bytes": 1, "sha256": ""}}), "cannot be part"),
    "an absolute file": (lambda m: m["files"].update({"/etc/hostname": {"bytes": 1, "sha256": ""}}), "cannot be part"),
    "the folder above": (lambda m: m["files"].update({"..": {"bytes": 1, "sha256": ""}}), "missing"),
    "no name": (lambda m: m["files"].update({"": {"bytes": 1, "sha256": ""}}), "missing"),
    "a name with a zero byte": (lambda m: m["files"].update({"a\0b": {"bytes": 1, "sha256": ""}}), "missing"),
    "a name that is no text": (lambda m: m["files"].update({"\ud800": {"bytes": 1, "sha256": ""}}), "missing"),
    "an entry that is no object": (lambda m: m["files"].update({GRAPH: 5}), "cannot be part"),
    "a size that is no number": (lambda m: m["files"][GRAPH].update(bytes="many"), "expected"),
    "no hash": (lambda m: m["files"][GRAPH].pop("sha256"), "changed"),
}


@pytest.mark.parametrize("edit", MANIFEST_EDITS)
def test_manifest_that_cannot_be_meant(edit, package, edit_json):
    change, message = MANIFEST_EDITS[edit]
    edit_json(package / MANIFEST, change)
    with pytest.raises(PackageError, match=message):
        verify_files(package)
