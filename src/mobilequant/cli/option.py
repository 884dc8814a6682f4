"""Options that several commands share, so that a word means the same everywhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How results are printed on standard output."""

    TABLE = "table"
    JSON = "json"


class LogFormat(StrEnum):
    """How progress and messages are printed on standard error."""

    RICH = "rich"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="Print a table for people, or JSON for scripts.")]
LogFormatOption = Annotated[
    LogFormat,
    typer.Option("--log-format", help="Progress on standard error: bars on a terminal, or one JSON object a line."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="Where to compute: cpu, or cuda with an NVIDIA GPU.")]
ExecutorOption = Annotated[
    str | None,
    typer.Option(
        "--executor",
        metavar="NAME",
        show_default="engine; reference with --device cuda",
        help="Who computes the integers: engine, or reference, the slow interpreter that it is tested against.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", show_default="physical cores, at most 8", help="Threads of the engine."),
]
KernelsOption = Annotated[
    str | None,
    typer.Option(
        "--kernels", metavar="NAME", show_default="the fastest", help="Kernels of the engine: scalar, avx2, …"
    ),
]
MaxNewTokensOption = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Stop after this many tokens.")]
GreedyOption = Annotated[bool, typer.Option("--greedy", help="Always take the most likely token: repeatable.")]
TemperatureOption = Annotated[float, typer.Option("--temperature", help="Higher is more surprising.")]
TopKOption = Annotated[int, typer.Option("--top-k", help="Only the so many most likely tokens; 0 for all.")]
TopPOption = Annotated[float, typer.Option("--top-p", help="Only the likeliest tokens that hold this probability.")]
PenaltyOption = Annotated[
    float, typer.Option("--repetition-penalty", help="Above 1, tokens that stand already become less likely.")
]
LARGEST_SEED = 2**63 - 1
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Use this seed instead of the recipe's.")
]
SamplingSeedOption = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Another seed, another text.")]
PackageArgument = Annotated[
    Path, typer.Argument(metavar="DIR", show_default=False, help="A package that `mobilequant quantize` made.")
]
