"""Builds of the engine without Python: one folder for each preset of CMakePresets.json."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Build:
    """One of CMakePresets.json, configured; programs are built when they are asked for."""

    folder: Path
    runner: tuple[str, ...] = ()

    def make(self, *targets):
        command = [tool("cmake"), "--build", str(self.folder), *(["--target", *targets] if targets else [])]
        with Locked(self.folder):
            succeed(command)

    def program(self, name):
        """The command that runs a program of the build."""
        self.make(name)
        (path,) = (each for each in (self.folder / "csrc").rglob(name) if each.is_file())
        return [*self.runner, str(path)]


def tool(name):
    """A program of this environment, or of the machine."""
    own = Path(sys.executable).with_name(name)
    return str(own) if own.exists() else shutil.which(name) or name


def succeed(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


class Locked:
    """Processes of one test run share the builds: one at a time works in a folder."""

    def __init__(self, folder):
        folder.parent.mkdir(exist_ok=True)
        self.path = folder.with_suffix(".lock")

    def __enter__(self):
        self.file = self.path.open("w")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()
