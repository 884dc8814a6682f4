"""Tables for the terminal. Text is never read as rich's markup: a model's name may contain brackets."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from mobilequant.report import wording
from mobilequant.report.schema import Score, float_reference, loss_percent, score_groups


def score_table(scores: Sequence[Score]) -> Table:
    """Models side by side, grouped by scheme; the headline result in bold."""
    table = _table("model", "computed in", "ppl", "over float", "KL, nats", "same choice", "size", "bits / weight")
    reference = float_reference(scores)
    for scheme, group in score_groups(scores):
        if scheme:
            table.add_row(Text(scheme, style="cyan"))
        for score in group:
            table.add_row(*_cells(_score_cells(score, reference)), style="bold" if score.is_headline else None)
        table.add_section()
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(header_style="dim", box=None, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _score_cells(score: Score, reference: Score | None) -> tuple[str, ...]:
    return (
        score.label,
        wording.kind(score.kind),
        wording.perplexity(score.ppl),
        wording.change(loss_percent(score, reference)),
        wording.decimal(score.kl, 4),
        wording.share(score.top1),
        wording.megabytes(score.size_bytes),
        wording.decimal(score.bits_per_weight),
    )


def _cells(values: Sequence[str]) -> list[Text]:
    return [Text(value) for value in values]
