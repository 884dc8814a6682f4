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
LARGEST_SEED = 2**63 - 1
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Use this seed instead of the recipe's.")
]
PackageArgument = Annotated[
    Path, typer.Argument(metavar="DIR", show_default=False, help="A package that `mobilequant quantize` made.")
]
