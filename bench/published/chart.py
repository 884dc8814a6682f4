"""What more data is worth, drawn: perplexity over float against the number of training windows."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import LogLocator

from mobilequant.report.plot.canvas import SERIES, figure, log_axis, standalone, styled
from published.row import SPELLED, TRAINED, Budget, Row, reference
from published.table import Found, groups

_COLOURS = {"block-wise": SERIES[0], "end-to-end": SERIES[1]}
_FLOOR_PERCENT = 0.01  # of what a logarithmic axis can show


@styled
def chart(rows: Sequence[Row], found: Found, budget: Budget) -> str | None:
    """An SVG file with one pair of axes for each model and setting; None while there is nothing to draw. Solid: every
    number of windows with the same steps. Dashed: with the same epochs."""
    drawn = {group: _losses(*group, found, budget) for group in groups(rows)}
    drawn = {group: lines for group, lines in drawn.items() if lines}
    if not drawn:
        return None
    made, all_axes = figure(4.3 * max(2, len(drawn)), 4.2, columns=len(drawn))
    for ((model, setting), lines), axes in zip(drawn.items(), all_axes, strict=True):
        for (objective, line), points in lines.items():
            dashes = "-" if line == "equal steps" else (0, (4, 3))
            name = f"{SPELLED[objective]}, {line}"
            axes.plot(*points, marker="o", markersize=5, linestyle=dashes, color=_COLOURS[objective], label=name)
        axes.set_title(f"{model}, {setting}")
        axes.set_xlabel("training windows")
        axes.set_xscale("log", base=2)
        axes.set_xticks(budget.numbers, [str(number) for number in budget.numbers])
        axes.tick_params(axis="x", which="minor", length=0, labelbottom=False)
    log_axis(all_axes[0])
    all_axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # rows of one model are within a decade
    all_axes[0].set_ylabel("perplexity above float, %")
    made.legend(*all_axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return standalone(made, "published-ablations", "Perplexity above float by number of training windows")


def _losses(
    model: str, setting: str, found: Found, budget: Budget
) -> dict[tuple[str, str], tuple[list[int], list[float]]]:
    """Windows and loss in percent of each line of which two points are there, by objective and name."""
    float_ppl = found.get(reference(model), {}).get("ppl_wiki_all")
    lines: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    for objective in TRAINED if float_ppl else ():
        for name, points in budget.lines.items():
            rows = [Row(model, setting, objective, windows=windows, epochs=epochs) for windows, epochs in points]
            done = {row.windows: found[row]["ppl_wiki_all"] for row in rows if "ppl_wiki_all" in found.get(row, {})}
            losses = [max(100 * (each / float_ppl - 1), _FLOOR_PERCENT) for each in done.values()]
            if len(done) > 1:
                lines[objective, name] = list(done), losses
    return lines
