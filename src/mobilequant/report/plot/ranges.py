"""Where static per-tensor ranges fail: the bulk of a tensor's values against the step that its outliers dictate."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mobilequant.report.plot.canvas import ALARM, GRID, INK, SERIES, figure, label, log_axis, styled, to_svg
from mobilequant.report.schema import RangeRow, RangeSeries

_LEVELS = 255  # steps of an 8-bit range
_BULK = "99"  # the percentile that a range must resolve


@styled
def range_plot(series: Sequence[RangeSeries]) -> str:
    """One panel per stage, common axis: largest value, percentiles, and what rounds to zero, by layer."""
    made, axes = figure(4.3 * max(2, len(series)), 3.7, len(series))
    for panel, stage in zip(axes, series, strict=True):
        _panel(panel, stage)
    axes[0].set_ylabel("magnitude of the values")
    handles, labels = axes[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9, columnspacing=1.4)
    return to_svg(made, "ranges", "Magnitudes of activations by layer, with the half step of the 8-bit grid")


def _panel(panel: Axes, stage: RangeSeries) -> None:
    rows = sorted(stage.rows, key=lambda row: row.layer)
    layers = [row.layer for row in rows]
    for row in rows:
        if loses_bulk(row):
            panel.axvspan(row.layer - 0.5, row.layer + 0.5, color=ALARM, alpha=0.16, linewidth=0)
    for percent, colour in zip(_percentiles(rows), (SERIES[6], SERIES[0], SERIES[1]), strict=False):
        text = "median" if percent == "50" else f"{percent} % of values below"
        panel.plot(layers, [magnitude(row.percentiles[percent]) for row in rows], color=colour, lw=1.5, label=text)
    panel.plot(
        layers,
        [magnitude((row.low, row.high)) for row in rows],
        color=INK, lw=1.0, marker="o", ms=3, label="largest",
    )  # fmt: skip
    panel.plot(
        layers, [half_step(row) for row in rows], color=ALARM, lw=1.8, ls=(0, (4, 1.5)), label="half a step: below → 0"
    )
    log_axis(panel)
    panel.set_title(label(stage.label))
    panel.set_xlabel("layer")
    panel.set_xlim(layers[0] - 0.7, layers[-1] + 0.7)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.grid(axis="x", visible=False)
    panel.spines["left"].set_color(GRID)


def _percentiles(rows: Sequence[RangeRow]) -> list[str]:
    """Percentiles that every layer has, ascending."""
    common = set.intersection(*(set(row.percentiles) for row in rows))
    return sorted(common, key=float)[:3]


def magnitude(bounds: tuple[float, float]) -> float:
    """The larger end; a tensor of zeros still gets a place on the logarithmic axis."""
    return max(abs(bounds[0]), abs(bounds[1]), 1e-6)


def half_step(row: RangeRow) -> float:
    """Values nearer to zero than this become zero."""
    step = row.step if row.step is not None else (max(row.high, 0.0) - min(row.low, 0.0)) / _LEVELS
    return max(step / 2, 1e-6)


def loses_bulk(row: RangeRow) -> bool:
    """Whether 99 % of the values lie within half a step of zero: the static range has lost the tensor."""
    bulk = row.percentiles.get(_BULK)
    return bulk is not None and half_step(row) > magnitude(bulk)
