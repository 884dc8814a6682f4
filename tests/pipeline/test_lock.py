"""Two runs never work in one folder, and nothing of a lock outlives its process."""

import os
import signal
import subprocess
import sys

import pytest

from mobilequant.errors import ResourceError, UsageError
from mobilequant.pipeline.lock import LockedError, claimed, empty, locked

HOLDER = """
import sys, time
from pathlib import Path
from mobilequant.pipeline.lock import locked

with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_the_folder_is_made_and_free_again_afterwards(tmp_path):
    folder = tmp_path / "a" / "b"
    for _ in range(2):
        with locked(folder):
            assert folder.is_dir()
    with pytest.raises(KeyError), locked(folder):
        raise KeyError
    with locked(folder):
        assert not list(folder.iterdir())


def test_a_second_run_is_refused_until_the_first_is_dead(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "locked\n"
    with pytest.raises(UsageError, match="another run is at work"), locked(tmp_path):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with locked(tmp_path):
        pass


def test_an_error_inside_is_passed_on(tmp_path):
    with pytest.raises(OSError, match="inside"), locked(tmp_path):
        raise OSError("inside")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResourceError, match="cannot write"), locked(tmp_path / "file"):
        pass


def test_empty_spares_the_folder_and_what_links_point_to(tmp_path):
    folder, other = tmp_path / "folder", tmp_path / "other"
    (folder / "deep" / "er").mkdir(parents=True)
    other.mkdir()
    (other / "file").write_text("x")
    (folder / "file").write_text("x")
    (folder / "link").symlink_to(other)
    empty(folder)
    assert not list(folder.iterdir())
    assert (other / "file").exists()


def test_a_claim_tells_whether_another_run_has_it(tmp_path):
    folder = tmp_path / "claim"
    with claimed(folder) as mine, claimed(folder) as second:
        assert mine and not second and folder.is_dir()
    assert not folder.exists()


def test_a_claim_ends_with_an_error_and_hides_no_lock_of_another_folder(tmp_path):
    with pytest.raises(LockedError), claimed(tmp_path / "claim") as mine, locked(tmp_path), locked(tmp_path):
        assert mine
    assert not (tmp_path / "claim").exists()
