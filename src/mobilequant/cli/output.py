"""Results on standard output: JSON for scripts, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from mobilequant.report.schema import Score

_WIDTH_IN_FILES = 120
# What steers a terminal: all control characters but the new line and the tab.
_STEERING = dict.fromkeys({*range(0x20), 0x7F, *range(0x80, 0xA0)} - {0x09, 0x0A}, "\N{REPLACEMENT CHARACTER}")


def write_text(text: str) -> None:
    """What a model or a stranger's file says, at once; it cannot steer the terminal."""
    sys.stdout.write(_harmless(text))
    sys.stdout.flush()


def write_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """One JSON value and a newline, and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> None:
    """A table; the first ``texts`` columns are aligned to the left, as text is, the others to the right."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < texts else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_harmless(cell)) for cell in row))
    _console().print(table)


def write_facts(title: str, facts: Mapping[str, str]) -> None:
    """Names and values, one pair a line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(_harmless(value)))
    _console().print(table)


def write_scores(scores: Sequence[Score]) -> None:
    """Models side by side."""
    from mobilequant.report.table import score_table

    _console().print(score_table(scores))


def _harmless(text: str) -> str:
    return text.translate(_STEERING)


def _console() -> Console:
    """Standard output; where it is no terminal there is no width to fit, so nothing is cut off."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_WIDTH_IN_FILES)


def tell(message: str) -> None:
    """A line on standard error, which leaves standard output to results; it cannot steer the terminal either."""
    sys.stderr.write(_harmless(message) + "\n")
