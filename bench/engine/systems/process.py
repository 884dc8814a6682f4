"""Run a program to its end, and say what it printed when it fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mobilequant.errors import ResourceError


def run(command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """What the program printed on standard output. Raises ResourceError with the end of its errors."""
    words = [str(word) for word in command]
    print(f"$ {' '.join(words)}", file=sys.stderr, flush=True)
    ended = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True)
    if ended.returncode:
        raise ResourceError(
            f"{words[0]} failed with code {ended.returncode}: {(ended.stderr or ended.stdout)[-2000:]}",
            "Fix what it says, and run again: what is prepared already is kept.",
        )
    return ended.stdout


def make_venv(folder: Path, packages: Sequence[str], unwanted: Sequence[str] = ()) -> Path:
    """The interpreter of an environment with exactly these pinned packages, made if needed.

    A list of another time is another environment: its folder is made anew. ``unwanted`` ones come along and break it.
    """
    python, stamp = folder / "bin" / "python", folder / "packages.txt"
    wanted = "\n".join((*packages, *(f"-{name}" for name in unwanted)))
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    run([sys.executable, "-m", "venv", "--clear", folder])
    run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    if unwanted:
        run([python, "-m", "pip", "uninstall", "--quiet", "--yes", *unwanted])
    stamp.write_text(wanted)
    return python
