"""The report: one HTML file that needs nothing else, no network, no script, and prints as it looks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mobilequant.evaluate.sqnr import SqnrRow
from mobilequant.pipeline.atomic_file import write_text
from mobilequant.report import wording
from mobilequant.report.plot.noise import heat_map, residual_plot
from mobilequant.report.plot.ranges import loses_bulk, range_plot
from mobilequant.report.plot.size import size_plot
from mobilequant.report.plot.tokens import token_plot
from mobilequant.report.points import by_role
from mobilequant.report.schema import (
    RangeSeries,
    Result,
    SqnrTable,
    as_result,
    float_reference,
    loss_percent,
    score_groups,
)

_WORST_POINTS = 8
_FULL_BAR_PERCENT = 100.0  # a perplexity twice the float one fills the bar


def write_report(path: Path, result: Mapping[str, Any] | Result) -> None:
    """Write the report of ``result`` (see ``report.schema``; sections that are missing are left out).

    Raises:
        DataError: the mapping is not a result.
        ResourceError: the place cannot be written.
    """
    write_text(path, render_report(as_result(result)))


def render_report(result: Result) -> str:
    """The HTML document. All text is escaped; only the drawings made here are taken as markup."""
    environment = Environment(
        loader=PackageLoader("mobilequant.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        megabytes=wording.megabytes, count=wording.count, perplexity=wording.perplexity, decimal=wording.decimal,
        share=wording.share, change=wording.change, duration=wording.duration, compact=wording.compact,
        kind=wording.kind, decibel=wording.decibel, value_text=_value_text, by_role=by_role,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(
        result=result,
        reference=float_reference(result.scores),
        headlines=[score for score in result.scores if score.is_headline],
        score_groups=score_groups(result.scores),
        tasks=sorted(result.tasks, key=lambda task: task.task),
        lost=[(series.label, lost_layers(series)) for series in result.ranges],
        worst=[(table.label, worst_points(table)) for table in result.sqnr],
        longest_s=max((step.seconds for step in result.steps), default=0.0) or 1.0,
        total_s=sum(step.seconds for step in result.steps),
        plots=_plots(result),
        loss=lambda score: loss_percent(score, float_reference(result.scores)),
        bar=bar_percent,
    )


def lost_layers(series: RangeSeries) -> list[int]:
    """Layers where 99 % of the values fall to zero under the static range."""
    return sorted(row.layer for row in series.rows if loses_bulk(row))


def worst_points(table: SqnrTable) -> list[SqnrRow]:
    """The noisiest points, noisiest first."""
    noisy = [row for row in table.rows if row.sqnr_db is not None]
    return sorted(noisy, key=lambda row: row.sqnr_db or 0.0)[:_WORST_POINTS]


def bar_percent(loss: float | None) -> float:
    """Length of the bar beside a loss, 0 … 100."""
    return 0.0 if loss is None else round(min(max(loss, 0.0), _FULL_BAR_PERCENT), 1)


def _plots(result: Result) -> dict[str, Any]:
    ranges = [series for series in result.ranges if series.rows]
    tokens = [series for series in result.token_outliers if series.max_abs]
    heat_maps = [(table.label, heat_map(table, f"heat{index}")) for index, table in enumerate(result.sqnr)]
    return {
        "ranges": Markup(range_plot(ranges)) if ranges else None,
        "tokens": Markup(token_plot(tokens)) if tokens else None,
        "residual": _markup(residual_plot(result.sqnr)),
        "heat_maps": [(label, Markup(drawing)) for label, drawing in heat_maps if drawing],
        "size": _markup(size_plot(result.schemes)),
    }


def _markup(drawing: str | None) -> Markup | None:
    return None if drawing is None else Markup(drawing)


def _value_text(value: Any) -> str:
    """A setting as it would stand in a JSON file, strings without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
