"""``mobilequant eval``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from mobilequant.cli import log, output
from mobilequant.cli.option import (
    DeviceOption,
    ExecutorOption,
    Format,
    FormatOption,
    LogFormat,
    LogFormatOption,
    PackageArgument,
)
from mobilequant.cli.progress import tracking


def evaluate(
    package: PackageArgument,
    text: Annotated[
        str, typer.Option("--text", metavar="FILE", help="A .txt or .jsonl file, or a built-in text.")
    ] = "wiki_squad",
    window: Annotated[int, typer.Option("--window", min=2, help="Tokens per window; windows do not overlap.")] = 512,
    tokens: Annotated[
        int, typer.Option("--tokens", min=1, help="Predictions; rounded down to whole windows, at least one.")
    ] = 20_440,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="NAME",
            show_default=False,
            help="Also a zero-shot task; may be repeated: piqa, arc_easy, hellaswag, winogrande, lambada; or: all.",
        ),
    ] = None,
    documents: Annotated[
        int, typer.Option("--documents", min=1, help="Documents of each task, from the first on.")
    ] = 100,
    model: Annotated[
        Path | None, typer.Option("--model", help="The float model, when it is no longer where it was quantized from.")
    ] = None,
    device: DeviceOption = "cpu",
    executor: ExecutorOption = None,
    output_format: FormatOption = Format.TABLE,
    log_format: LogFormatOption = LogFormat.RICH,
) -> None:
    """Measure what integers cost: perplexity of the float, the simulated and the integer model side by side.

    Example: mobilequant eval smollm2-w8a8 --text wiki_squad --window 512 --tokens 20440

    Text that overlaps the calibration text is refused.
    """
    log.configure(log_format)
    with tracking(log_format) as track:
        from mobilequant.data.task import VARIANTS
        from mobilequant.jobs.evaluate import evaluate as run

        result = run(
            package,
            text=text,
            window=window,
            tokens=tokens,
            tasks=tuple(VARIANTS) if task == ["all"] else task or (),
            documents=documents,
            model=model,
            device=device,
            executor=executor,
            track=track,
        )
    if output_format is Format.JSON:
        output.write_json(result)
    else:
        _write_tables(str(package), result)


def _write_tables(package: str, result: dict[str, Any]) -> None:
    from mobilequant.jobs.report import score_lines

    protocol = result["protocol"]
    output.write_scores(list(score_lines({package: result})))
    output.tell(f"{protocol['text']}: {protocol['predictions']} predictions in windows of {protocol['window']} tokens")
    if result["tasks"]:
        output.write_table("Zero-shot accuracy", _TASK_COLUMNS, _task_rows(result))


_TASK_COLUMNS = ("task", "model", "accuracy", "standard error", "95 % interval", "change from float")


def _task_rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Accuracies in percent, errors and changes in percentage points."""
    for task, models in result["tasks"].items():
        for name, found in models.items():
            points = {key: 100 * value for key, value in found.items() if key.startswith("acc")}
            change = f"{points['acc_change']:+.1f} ± {points['acc_change_se']:.1f}" if name != "float" else ""
            interval = f"{points['acc_low']:.1f} – {points['acc_high']:.1f}"
            yield task, name, f"{points['acc']:.1f} %", f"{points['acc_se']:.1f}", interval, change
