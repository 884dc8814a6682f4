"""``mobilequant quantize``."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mobilequant.cli import log, output
from mobilequant.cli.option import DeviceOption, Format, FormatOption, LogFormat, LogFormatOption, SeedOption
from mobilequant.cli.plan import tell_plan
from mobilequant.cli.progress import tracking
from mobilequant.pipeline import parallel
from mobilequant.pipeline.progress import Track, silent


def quantize(
    model: Annotated[
        str,
        typer.Argument(
            show_default=False, help="A built-in name (see `mobilequant models`), a folder, a .gguf file or a hub id."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", show_default=False, help="Folder of the new package.")],
    preset: Annotated[
        str | None, typer.Option("--preset", show_default="w8a8-fast", help="A recipe of `mobilequant recipes`.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", metavar="FILE", help="A recipe of your own (YAML) instead of a preset.")
    ] = None,
    work_dir: Annotated[
        Path | None,
        typer.Option(
            "--work-dir", metavar="DIR", help="Keep finished units here. Default: OUT.work, removed when all is done."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in the work folder.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing package, and start an interrupted run again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print time, memory and disk, and stop.")
    ] = False,
    seed: SeedOption = None,
    device: DeviceOption = "cpu",
    output_format: FormatOption = Format.TABLE,
    log_format: LogFormatOption = LogFormat.RICH,
) -> None:
    """Turn a language model into an integer package that a phone can run.

    Example: mobilequant quantize smollm2-135m --preset w8a8-fast --out smollm2-w8a8

    A run that is interrupted continues with --resume and ends in the same bytes. Several GPUs or hosts share it:
    torchrun --nproc-per-node 2 -m mobilequant quantize smollm2-135m --device cuda --out smollm2-w8a8
    """
    from mobilequant.pipeline.recipe import choose_recipe, recipe_hash

    chosen = choose_recipe(preset, recipe, seed)
    log.configure(log_format)
    with parallel.joined(device) as own, _speaking(log_format) as track:
        first = parallel.rank() == 0
        from mobilequant.jobs.quantize import prepare, run_together

        job = prepare(model, chosen, out=out, work_dir=work_dir, force=force, device=own, track=track)
        if first:
            tell_plan(job.plan, log_format)
        package = None if dry_run else run_together(job, resume=resume, force=force, track=track)
    if not first:
        return
    facts = {"model": job.name, "scheme": chosen.scheme, "recipe_sha256": recipe_hash(chosen)}
    if output_format is Format.JSON:
        output.write_json({**facts, "package": str(package) if package else None, "plan": asdict(job.plan)})
    elif package:
        output.write_facts("Quantized", {**facts, "package": str(package)})
        output.tell(f"Look at it with: mobilequant inspect {package}")


def _speaking(log_format: LogFormat) -> AbstractContextManager[Track]:
    """Progress, and messages of the library, in the first process of a run; the others only do its work."""
    if parallel.rank() == 0:
        return tracking(log_format)
    log.only_errors()
    return nullcontext(silent)
