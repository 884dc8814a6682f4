from types import SimpleNamespace

import pytest

from mobilequant.errors import ResourceError
from mobilequant.pipeline import resource
from mobilequant.pipeline.resource import Plan, require

PLAN = Plan(time_s=60.0, memory_bytes=2_000_000_000, work_bytes=600_000_000, package_bytes=500_000_000)


def machine(monkeypatch, *, memory, disk):
    monkeypatch.setattr(resource.psutil, "virtual_memory", lambda: SimpleNamespace(available=memory))
    monkeypatch.setattr(resource.shutil, "disk_usage", lambda folder: SimpleNamespace(free=disk))


def test_enough_of_everything(monkeypatch, tmp_path):
    machine(monkeypatch, memory=3e9, disk=2e9)
    require(PLAN, out=tmp_path / "not" / "yet", work_dir=tmp_path / "work")


def test_too_little_memory_gives_both_numbers_and_a_knob(monkeypatch, tmp_path):
    machine(monkeypatch, memory=1.5e9, disk=2e9)
    with pytest.raises(ResourceError) as caught:
        require(PLAN, out=tmp_path, work_dir=tmp_path)
    assert "2 GB" in caught.value.message
    assert "1.5 GB" in caught.value.message
    assert "data.window" in caught.value.remedy


def test_one_disk_must_hold_work_and_package_together(monkeypatch, tmp_path):
    machine(monkeypatch, memory=3e9, disk=1e9)
    with pytest.raises(ResourceError, match=r"1\.1 GB of disk"):
        require(PLAN, out=tmp_path, work_dir=tmp_path)


def test_two_disks_are_counted_alone(monkeypatch, tmp_path):
    machine(monkeypatch, memory=3e9, disk=1e9)
    monkeypatch.setattr(resource, "_device", lambda folder: folder.name)
    require(PLAN, out=tmp_path / "a", work_dir=tmp_path / "b")
