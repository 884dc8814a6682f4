"""What each rung of an ablation costs: one line per width, from rounding to nearest down to everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobilequant.report.plot.canvas import INK, MUTED, SERIES, figure, log_axis, standalone, styled

_PERCENT = 100.0


@styled
def ladder_plot(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """An SVG file: perplexity over float in percent, logarithmic; the last entry of a width is its bound."""
    names = [row["name"] for row in next(iter(rows.values()))][:-1]
    made, (axes,) = figure(8.6, 4.6)
    for (width, entries), colour in zip(rows.items(), SERIES, strict=False):
        losses = [max(_loss(row), 0.01) for row in entries]
        axes.plot(range(len(names)), losses[:-1], marker="o", markersize=5, linewidth=1.8, color=colour, label=width)
        axes.axhline(losses[-1], linewidth=1.0, linestyle=(0, (4, 3)), color=colour)
        note = f"{width}, activations rounded per token: {_loss(entries[-1]):.1f} %"
        axes.annotate(note, (0, losses[-1]), xytext=(2, 3), textcoords="offset points", fontsize=8, color=MUTED)
        last = f"{_loss(entries[-2]):.1f} %"
        axes.annotate(last, (len(names) - 1, losses[-2]), xytext=(7, 0), textcoords="offset points", va="center")
    log_axis(axes)
    axes.set_xticks(range(len(names)), names, rotation=28, ha="right")
    axes.tick_params(axis="x", labelcolor=INK)
    axes.set_ylabel("perplexity above float, %")
    axes.margins(x=0.08)
    made.legend(loc="outside upper left", ncols=4)
    return standalone(made, "ladder", "Perplexity above float of each rung")


def _loss(row: Mapping[str, Any]) -> float:
    return _PERCENT * (row["ppl_ratio"] - 1)
