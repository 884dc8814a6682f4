import pytest

from mobilequant.errors import ResourceError, UsageError
from mobilequant.pipeline.output_folder import new_folder, require_free

MARKER = "provenance.json"


def fill(out, content, *, force=False):
    with new_folder(out, force=force, marker=MARKER) as folder:
        (folder / MARKER).write_text(content)


def test_the_folder_appears_whole_with_its_parents(tmp_path):
    out = tmp_path / "a" / "b"
    fill(out, "one")
    assert (out / MARKER).read_text() == "one"
    assert [path.name for path in out.parent.iterdir()] == ["b"]


def test_an_empty_folder_may_be_used(tmp_path):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "one")
    assert (tmp_path / "out" / MARKER).read_text() == "one"


def test_a_failure_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out", force=False, marker=MARKER) as folder:
        (folder / "half").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_package_is_replaced_only_with_force(tmp_path):
    fill(tmp_path / "out", "one")
    with pytest.raises(UsageError, match="--force"):
        fill(tmp_path / "out", "two")
    fill(tmp_path / "out", "two", force=True)
    assert (tmp_path / "out" / MARKER).read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failed_replacement_keeps_the_old_package(tmp_path):
    fill(tmp_path / "out", "one")
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out", force=True, marker=MARKER):
        raise RuntimeError
    assert (tmp_path / "out" / MARKER).read_text() == "one"


def test_force_never_deletes_foreign_files(tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years")
    with pytest.raises(UsageError, match="holds other files"):
        require_free(tmp_path, force=True, marker=MARKER)
    assert (tmp_path / "thesis.txt").exists()


def test_a_file_in_the_way_is_a_resource_error(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(ResourceError, match="cannot write"):
            require_free(out, force=True, marker=MARKER)


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "half").write_text("half")
    fill(tmp_path / "out", "one")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [MARKER]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed_and_stays(tmp_path, exists):
    if exists:
        (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with new_folder(tmp_path / "link", force=False, marker=MARKER) as folder:
        (folder / MARKER).write_text("x")
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    assert (tmp_path / "real" / MARKER).exists()


def test_a_name_that_no_disk_takes(tmp_path):
    with pytest.raises(ResourceError, match="too long"):
        require_free(tmp_path / ("n" * 300), force=False, marker=MARKER)
