"""``mobilequant models``."""

from __future__ import annotations

from dataclasses import dataclass

from mobilequant.cli import output
from mobilequant.cli.option import Format, FormatOption
from mobilequant.pipeline.quantity import size

_OTHERS = """\
Any other model: give a Hugging Face folder (config.json, .safetensors, tokenizer.json), a .gguf file, or a hub id.
Families: {families}. No code from a checkpoint is ever run.
Downloads and conversions are kept in the cache folder; MOBILEQUANT_CACHE chooses another one."""


def models(output_format: FormatOption = Format.TABLE) -> None:
    """List the built-in models, and say how to use your own.

    Example: mobilequant models
    """
    from mobilequant.arch.registry import SPECS
    from mobilequant.models.sources.builtin import builtins

    found = [
        _Row(model.name, model.title, model.num_parameters, model.licence, model.download_bytes) for model in builtins()
    ]
    if output_format is Format.JSON:
        output.write_json([vars(row) for row in found])
        return
    rows = [
        (row.name, row.title, f"{row.num_parameters / 1e6:.0f} M", row.licence, _download(row.download_bytes))
        for row in found
    ]
    output.write_table("Built-in models", ("name", "what it is", "weights", "licence", "download"), rows)
    families = ", ".join(sorted({spec.family for spec in SPECS}))
    output.tell(_OTHERS.format(families=families))


@dataclass(frozen=True)
class _Row:
    name: str
    title: str
    num_parameters: int
    licence: str
    download_bytes: int


def _download(num_bytes: int) -> str:
    return size(num_bytes) if num_bytes else "in cache"
