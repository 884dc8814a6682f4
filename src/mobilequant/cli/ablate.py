"""``mobilequant ablate``."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mobilequant.cli import log, output
from mobilequant.cli.option import DeviceOption, Format, FormatOption, LogFormat, LogFormatOption
from mobilequant.cli.progress import tracking


class Width(StrEnum):
    """Bits of weights and activations."""

    W8A8 = "w8a8"
    W4A8 = "w4a8"
    W4G64A8 = "w4g64a8"


def ablate(
    model: Annotated[str, typer.Argument(metavar="MODEL", show_default=False, help="As for `mobilequant quantize`.")],
    work: Annotated[
        Path, typer.Option("--work", show_default=False, help="Folder of packages and results; a second run goes on.")
    ],
    width: Annotated[
        list[Width] | None,
        typer.Option("--width", show_default=False, help="May be repeated; w8a8 and w4a8 if left out."),
    ] = None,
    data: Annotated[str, typer.Option("--data", help="The calibration text.")] = "mixed",
    count: Annotated[int, typer.Option("--count", min=2, help="Calibration windows of 512 tokens.")] = 24,
    training: Annotated[str, typer.Option("--training", help="The text on which the last rungs train.")] = "broad",
    training_count: Annotated[int, typer.Option("--training-count", min=1, help="Training windows.")] = 4112,
    text: Annotated[str, typer.Option("--text", metavar="FILE", help="The text that is scored.")] = "wiki_squad",
    window: Annotated[int, typer.Option("--window", min=2, help="Tokens per window, of all three texts.")] = 512,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Predictions that are scored.")] = 20_440,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the windows and of every method.")] = 0,
    device: DeviceOption = "cpu",
    output_format: FormatOption = Format.TABLE,
    log_format: LogFormatOption = LogFormat.RICH,
) -> None:
    """Measure what each idea is worth: from rounding to nearest, one step at a time, to everything.

    Example: mobilequant ablate smollm2-135m --work ladder --device cuda

    Each step is a package of its own in integers. On a GPU a ladder takes half an hour, on a CPU hours. Told the same
    in several shells at once, with one --work folder, on one GPU or on several (CUDA_VISIBLE_DEVICES), they share the
    steps; divide the cores then, too (OMP_NUM_THREADS=4).
    """
    log.configure(log_format)
    with tracking(log_format) as track:
        from mobilequant.jobs.ablate import ablate as run
        from mobilequant.pipeline.recipe import CalibrationData

        found = run(
            model,
            work=work,
            widths=[each.value for each in width or (Width.W8A8, Width.W4A8)],
            data=CalibrationData(text=data, window=window, count=count, seed=seed),
            training=CalibrationData(text=training, window=window, count=training_count, seed=seed),
            text=text,
            window=window,
            tokens=tokens,
            seed=seed,
            device=device,
            track=track,
        )
    if output_format is Format.JSON:
        output.write_json(found)
        return
    for name, entries in found["widths"].items():
        output.write_table(f"{found['model']}, {name}", _COLUMNS, _rows(entries))
    output.tell(f"All of it is in {work / 'ablation.json'}, drawn in {work / 'ablation.svg'}.")


_COLUMNS = ("step", "perplexity", "above float", "KL", "top-1")


def _rows(entries: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    yield "float", f"{entries[0]['float_ppl']:.2f}", "", "", ""
    for row in entries:
        loss, top1 = f"{100 * (row['ppl_ratio'] - 1):+.1f} %", f"{100 * row['top1']:.1f} %"
        yield row["name"], f"{row['ppl']:.2f}", loss, f"{row['kl']:.3f}", top1
