"""``mobilequant models``."""

from __future__ import annotations

from mobilequant.cli import output
from mobilequant.cli.option import Format, FormatOption
from mobilequant.pipeline.quantity import size

_FIELDS = ("name", "title", "num_parameters", "licence", "download_bytes")
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

    if output_format is Format.JSON:
        output.write_json([{field: getattr(model, field) for field in _FIELDS} for model in builtins()])
        return
    rows = [
        (model.name, model.title, f"{model.num_parameters / 1e6:.0f} M", model.licence, _download(model.download_bytes))
        for model in builtins()
    ]
    output.write_table("Built-in models", ("name", "what it is", "weights", "licence", "download"), rows)
    families = ", ".join(sorted({spec.family for spec in SPECS}))
    output.tell(_OTHERS.format(families=families))


def _download(num_bytes: int) -> str:
    return size(num_bytes) if num_bytes else "in cache"
