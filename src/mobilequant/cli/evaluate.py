"""``mobilequant eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mobilequant.cli import log, output
from mobilequant.cli.option import DeviceOption, Format, FormatOption, LogFormat, LogFormatOption, PackageArgument
from mobilequant.cli.progress import tracking

_ROWS = {
    "float": "float",
    "float_prefix": "float + prefix (control)",
    "fake_quant": "fake-quant (simulated)",
    "integer": "integer",
}


def evaluate(
    package: PackageArgument,
    text: Annotated[
        str, typer.Option("--text", metavar="FILE", help="A .txt or .jsonl file, or a built-in text.")
    ] = "wiki_squad",
    window: Annotated[int, typer.Option("--window", min=2, help="Tokens per window; windows do not overlap.")] = 512,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="How many tokens of the text to predict.")] = 20_440,
    model: Annotated[
        Path | None, typer.Option("--model", help="The float model, when it is no longer where it was quantized from.")
    ] = None,
    device: DeviceOption = "cpu",
    output_format: FormatOption = Format.TABLE,
    log_format: LogFormatOption = LogFormat.RICH,
) -> None:
    """Measure what integers cost: perplexity of the float, the simulated and the integer model side by side.

    Example: mobilequant eval smollm2-w8a8 --text wiki_squad --window 512 --tokens 20440

    Text that overlaps the calibration text is refused.
    """
    log.configure(log_format)
    with tracking(log_format) as track:
        from mobilequant.jobs.evaluate import evaluate as run

        result = run(package, text=text, window=window, tokens=tokens, model=model, device=device, track=track)
    if output_format is Format.JSON:
        output.write_json(result)
    else:
        output.write_table(_title(result), ("model", "ppl", "vs. float", "KL (nats)", "top-1 agrees"), _rows(result))


def _title(result: dict[str, Any]) -> str:
    protocol = result["protocol"]
    return f"{result['model']} · {result['scheme']} · {protocol['text']}, {protocol['predictions']} predictions"


def _rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    reference = result["float"]["ppl"]
    return [
        (
            label,
            f"{result[key]['ppl']:.3f}",
            f"{100 * (result[key]['ppl'] / reference - 1):+.2f} %",
            f"{result[key]['kl']:.4f}",
            f"{100 * result[key]['top1']:.1f} %",
        )
        for key, label in _ROWS.items()
        if key in result
    ]
