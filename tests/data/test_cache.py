import pytest

from mobilequant.data import cache
from mobilequant.errors import ResourceError


def test_follows_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILEQUANT_CACHE", str(tmp_path / "deep" / "cache"))
    assert cache.cache_dir() == tmp_path / "deep" / "cache"
    assert cache.cache_dir().is_dir()


def test_default_is_the_platform_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("MOBILEQUANT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache.sys, "platform", "linux")
    assert cache.cache_dir() == tmp_path / "mobilequant"


def test_unwritable_place_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MOBILEQUANT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ResourceError, match="Cannot write to the cache folder"):
        cache.cache_dir()


def test_file_appears_whole(tmp_path):
    target = tmp_path / "a" / "file.bin"
    with cache.publish_file(target) as temporary:
        temporary.write_bytes(b"content")
        assert not target.exists()
    assert target.read_bytes() == b"content"
    assert list(target.parent.iterdir()) == [target]


def test_failed_file_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), cache.publish_file(tmp_path / "file.bin") as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_failed_folder_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), cache.publish_folder(tmp_path / "model") as temporary:
        (temporary / "half").write_bytes(b"half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_second_publisher_of_a_folder_loses_quietly(tmp_path):
    target = tmp_path / "model"
    with cache.publish_folder(target) as slow:
        with cache.publish_folder(target) as fast:
            (fast / "weights").write_text("fast")
        (slow / "weights").write_text("slow")
    assert (target / "weights").read_text() == "fast"
    assert list(tmp_path.iterdir()) == [target]


def test_too_little_disk_tells_both_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5_000_000}))
    cache.require_space(tmp_path, 5_000_000)
    with pytest.raises(ResourceError, match="12 MB needed, 5 MB free"):
        cache.require_space(tmp_path, 12_000_000)
