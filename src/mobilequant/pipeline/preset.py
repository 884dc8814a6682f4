"""The shipped recipes: where they lie and what they are called."""

from __future__ import annotations

from importlib import resources

from mobilequant.errors import UsageError, did_you_mean

DEFAULT = "w8a8-fast"


def preset_names() -> list[str]:
    """All preset names, sorted."""
    folder = resources.files("mobilequant.recipes")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """The YAML text of a preset.

    Raises:
        UsageError: no preset has that name; names the nearest one.
    """
    names = preset_names()
    if name not in names:
        raise UsageError(
            f"there is no preset {name!r}",
            f"{did_you_mean(name, names)}Presets: {', '.join(names)}. "
            "A recipe of your own is given as the path of a .yaml file.",
        )
    return resources.files("mobilequant.recipes").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
