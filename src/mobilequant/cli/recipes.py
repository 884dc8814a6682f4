"""``mobilequant recipes``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mobilequant.cli import output
from mobilequant.cli.option import Format, FormatOption
from mobilequant.pipeline.preset import preset_names, preset_text

if TYPE_CHECKING:
    from mobilequant.pipeline.recipe import Measurement, Preset


def recipes(
    name: Annotated[
        str | None, typer.Argument(show_default=False, help="Print the YAML of this preset, to start your own from.")
    ] = None,
    output_format: FormatOption = Format.TABLE,
) -> None:
    """List the presets with their measured loss, or print one as YAML.

    Example: mobilequant recipes w8a8-fast > mine.yaml
    """
    from mobilequant.pipeline.recipe import load_preset

    if name is not None:
        if output_format is Format.JSON:
            output.write_json(_as_json(name, load_preset(name)))
        else:
            typer.echo(preset_text(name), nl=False)
        return
    presets = {name: load_preset(name) for name in preset_names()}
    if output_format is Format.JSON:
        output.write_json([_as_json(name, preset) for name, preset in presets.items()])
        return
    rows = [(name, preset.summary, _losses(preset)) for name, preset in presets.items()]
    output.write_table("Presets", ("name", "what it is", "measured loss"), rows, texts=2)
    output.tell("fast: minutes on a CPU. balanced: within an hour on 2 cores, minutes on a GPU. best, tuned: on a GPU.")


def _as_json(name: str, preset: Preset) -> dict[str, object]:
    from mobilequant.pipeline.recipe import recipe_hash

    return {"name": name, "recipe_sha256": recipe_hash(preset), **preset.model_dump(mode="json")}


def _losses(preset: Preset) -> str:
    return "\n".join(_loss(entry) for entry in preset.measured) or "not measured yet"


def _loss(entry: Measurement) -> str:
    percent = 100 * (entry.integer_ppl / entry.float_ppl - 1)
    return f"{entry.model} {entry.float_ppl:.2f} → {entry.integer_ppl:.2f} ({percent:+.1f} %)"
