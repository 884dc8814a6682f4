"""What each rung of an ablation costs: one line per width, from rounding to nearest down to everything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from mobilequant.report.plot.canvas import INK, MUTED, SERIES, figure, log_axis, standalone, styled

_PERCENT = 100.0
_LINEAR_BELOW = 1.0  # percent


@styled
def ladder_plot(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """An SVG file: perplexity over float in percent, in proportion below 1 % and logarithmic above.

    The last entry of a width is its bound. Widths need not have the same rungs: a line passes by what it has not.
    """
    names = rungs([row["name"] for row in entries[:-1]] for entries in rows.values())
    losses = {width: [_PERCENT * (row["ppl_ratio"] - 1) for row in entries] for width, entries in rows.items()}
    made, (axes,) = figure(8.6, 4.6)
    for (width, (*found, bound)), colour in zip(losses.items(), SERIES, strict=False):
        places = [names.index(row["name"]) for row in rows[width][:-1]]
        axes.plot(places, found, marker="o", markersize=5, linewidth=1.8, color=colour, label=width)
        axes.axhline(bound, linewidth=1.0, linestyle=(0, (4, 3)), color=colour)
        note = f"{width}, rounded per token: {bound:.1f} %"
        axes.annotate(note, (0, bound), xytext=(2, 3), textcoords="offset points", fontsize=8, color=MUTED)
        last = f"{found[-1]:.1f} %"
        axes.annotate(last, (places[-1], found[-1]), xytext=(7, 0), textcoords="offset points", va="center")
    log_axis(axes, linear_below=_LINEAR_BELOW)
    drawn = list(chain.from_iterable(losses.values()))
    axes.set_ylim(min(0.0, *drawn) - _LINEAR_BELOW / 2, 2 * max(_LINEAR_BELOW, *drawn))
    axes.set_xticks(range(len(names)), names, rotation=28, ha="right")
    axes.tick_params(axis="x", labelcolor=INK)
    axes.set_ylabel("perplexity above float, %")
    axes.margins(x=0.08)
    made.legend(loc="outside upper left", ncols=4)
    return standalone(made, "ladder", "Perplexity above float of each rung")


def rungs(orders: Iterable[Sequence[str]]) -> list[str]:
    """The names of all widths in one order: one that not all have comes behind what it follows in its own width."""
    merged: list[str] = []
    for names in orders:
        place = 0
        for name in names:
            if name not in merged:
                merged.insert(place, name)
            place = merged.index(name) + 1
    return merged
