"""Which tokens carry the outliers: the largest magnitude of an activation by position."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from mobilequant.report.plot.canvas import ALARM, SERIES, figure, label, log_axis, styled, to_svg
from mobilequant.report.schema import TokenSeries

_MARKERS = "osD^v"


@styled
def token_plot(series: Sequence[TokenSeries]) -> str:
    """One line per series on a logarithmic axis."""
    made, (axes,) = figure(8.6, 3.0)
    colours = (ALARM, SERIES[0], SERIES[2], SERIES[1], SERIES[3])
    for line, colour, marker in zip(series, colours, _MARKERS, strict=False):
        values = [max(value, 1e-6) for value in line.max_abs]
        axes.plot(
            values, color=colour, lw=0.9, marker=marker, ms=3.4, label=f"{label(line.label)} ({label(line.point)})"
        )
    log_axis(axes)
    axes.set_xlabel("position in the window")
    axes.set_ylabel("largest |value| over channels")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper right", fontsize=9)
    return to_svg(made, "tokens", "Largest magnitude of an activation by position in the window")
