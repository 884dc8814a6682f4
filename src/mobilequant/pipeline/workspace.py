"""Workspace: the folder in which a run keeps every finished unit, so that a killed run continues where it was.

    run.json                         what this run is: model, recipe, texts, environment
    notes/<name>.json                small facts found on the way (the prefix tokens)
    units/<step>/<unit>.safetensors  one method's result for one unit

Every file is whole or absent. A run may only be resumed by the same model, recipe and calibration text.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mobilequant.errors import CheckpointError, ResourceError, UsageError
from mobilequant.pipeline import result_file
from mobilequant.pipeline.atomic_file import write_atomically
from mobilequant.pipeline.environment import environment
from mobilequant.pipeline.lock import empty
from mobilequant.pipeline.method import Result
from mobilequant.pipeline.recipe import Recipe, recipe_hash

logger = logging.getLogger(__name__)

_RUN_FILE = "run.json"


@dataclass(frozen=True)
class Run:
    """What decides the bytes of a result."""

    model: str
    model_sha256: str
    text_sha256: str
    recipe: Recipe
    training_sha256: str | None = None  # of the text that is trained on, where the recipe names one

    def as_json(self) -> dict[str, Any]:
        """As it stands in ``run.json``."""
        return {
            "model": self.model,
            "model_sha256": self.model_sha256,
            "text_sha256": self.text_sha256,
            "training_sha256": self.training_sha256,
            "recipe_sha256": recipe_hash(self.recipe),
            "recipe": self.recipe.model_dump(mode="json"),
        }


class Workspace:
    """A ``Checkpoint`` on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, step: str, unit: str) -> Result | None:
        """The saved result, or None when the unit has not been finished.

        Raises:
            CheckpointError: the file is damaged.
        """
        path = self._unit_path(step, unit)
        if not path.exists():
            return None
        try:
            return result_file.read(path)
        except ValueError as error:
            raise CheckpointError(
                f"a saved unit cannot be read: {error}", f"Delete {path} and resume; the unit is computed again."
            ) from error

    def save(self, step: str, unit: str, result: Result) -> None:
        """Keep the result of a finished unit; after return it survives a kill.

        Raises:
            ResourceError: the disk refuses it.
        """
        self._write(self._unit_path(step, unit), result_file.to_bytes(result))

    def note(self, name: str) -> Any | None:
        """A small fact that was kept, or None.

        Raises:
            CheckpointError: the file is damaged.
        """
        path = self._note_path(name)
        try:
            return json.loads(path.read_text()) if path.exists() else None
        except ValueError as error:
            raise CheckpointError(
                f"{path} is damaged: {error}", "Delete it and resume; what it held is found again."
            ) from error

    def keep_note(self, name: str, value: Any) -> None:
        """Keep a small fact as JSON."""
        self._write(self._note_path(name), json.dumps(value).encode())

    def remove(self) -> None:
        """Delete the folder and all in it."""
        shutil.rmtree(self.folder)

    def _unit_path(self, step: str, unit: str) -> Path:
        return self.folder / "units" / _file_name(step) / f"{_file_name(unit)}.safetensors"

    def _note_path(self, name: str) -> Path:
        return self.folder / "notes" / f"{_file_name(name)}.json"

    def _write(self, path: Path, content: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        except OSError as error:
            raise ResourceError(
                f"cannot save {path}: {error.strerror}", "Free disk space, then continue with --resume."
            ) from error


def open_workspace(folder: Path, run: Run, *, resume: bool, force: bool) -> Workspace:
    """A workspace for ``run``: new, or continued with ``resume``, or begun again with ``force``.

    Raises:
        UsageError: the folder holds other files, or another run, or a run and neither resume nor force was asked for.
        ResourceError: the folder cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()):
        _require_ours(folder)
        if resume:
            _require_same(folder, run)
            return Workspace(folder)
        if not force:
            raise UsageError(
                f"the work folder {folder} holds an unfinished run",
                "Continue it with --resume, or start again with --force.",
            )
        empty(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps({**run.as_json(), "environment": environment().model_dump()}, indent=2)
        write_atomically(folder / _RUN_FILE, content.encode())
    except OSError as error:
        raise ResourceError(f"cannot write to {folder}: {error.strerror}", "Choose another --work-dir.") from error
    return Workspace(folder)


def _require_ours(folder: Path) -> None:
    if not (folder / _RUN_FILE).is_file():
        raise UsageError(
            f"the work folder {folder} holds other files",
            "Choose a new folder for --work-dir; these are never deleted.",
        )


def _require_same(folder: Path, run: Run) -> None:
    try:
        saved = json.loads((folder / _RUN_FILE).read_text())
        different = list(_differences(saved, run.as_json()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder / _RUN_FILE} is damaged", "Start again with --force.") from error
    if different:
        raise UsageError(
            f"the run in {folder} is a different one: {'; '.join(different)}",
            "Repeat the command that started it, choose another --work-dir, or start again with --force.",
        )
    if saved.get("environment") != environment().model_dump():
        logger.warning("the run in %s was started in another environment; its bytes may differ", folder)


def _differences(saved: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """What differs, for people: single keys of the recipe instead of its hash."""
    for key, value in now.items():
        if key == "recipe":
            yield from _differences(saved[key], value)
        elif saved[key] != value and key != "recipe_sha256":
            yield f"{key} was {saved[key]}, now {value}"


def _file_name(name: str) -> str:
    """A name as one safe path component; different names stay different."""
    safe = quote(name, safe=" ()+,=")
    return "%2E" + safe[1:] if safe.startswith(".") else safe
