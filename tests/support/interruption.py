"""Runs that are killed in the middle, and what they leave."""

from __future__ import annotations

from mobilequant.pipeline.workspace import Workspace


class KilledError(Exception):
    """What a run dies of."""


def killing(after):
    """A progress that dies behind ``after`` items."""

    def track(items, task, total):
        for number, item in enumerate(items):
            if number == after:
                raise KilledError
            yield item

    return track


class DyingWorkspace(Workspace):
    """A workspace that dies behind ``lives`` saves."""

    def __init__(self, folder, lives):
        super().__init__(folder)
        self.lives = lives

    def save(self, step, unit, result):
        if self.lives == 0:
            raise KilledError
        self.lives -= 1
        super().save(step, unit, result)


def saved(workspace):
    """The bytes of every finished unit."""
    root = workspace.folder / "units"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
