"""The numbers of a run drawn: speed of the prompt and of decoding, a bar for each row, with its perplexity.

PYTHONPATH=bench python -m engine.chart [--run NAME] [--shape smollm2-135m] [--threads 2] > engine.svg
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.results import PERPLEXITY, SAMPLES, lines
from engine.shapes import REAL, SHAPES
from engine.summary import OURS, Row, rows
from engine.table import SPEEDS
from mobilequant.report.plot.canvas import INK, SERIES, figure, standalone, styled


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="first")
    parser.add_argument("--samples", type=Path, default=SAMPLES)
    parser.add_argument("--shape", default=REAL, choices=SHAPES)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args(given)
    found = [
        row
        for row in rows(lines(arguments.samples), arguments.run)
        if (row.shape, row.threads) == (arguments.shape, arguments.threads)
    ]
    perplexities = {(line["system"], line["variant"]): line["ppl"] for line in lines(PERPLEXITY)}
    print(chart(found, perplexities if arguments.shape == REAL else {}))


@styled
def chart(found: Sequence[Row], perplexities: Mapping[tuple[str, str], float]) -> str:
    """An SVG file, one pair of axes for each speed; a line from the lowest to the highest round on every bar."""
    measures = {name: title for name, title in SPEEDS.items() if any(name in row.measured for row in found)}
    made, all_axes = figure(3.6 * len(measures) + 1.4, 0.32 * len(found) + 1.0, columns=len(measures))
    titles = [_title(row, perplexities.get((row.system, row.variant))) for row in found]
    for (name, title), axes in zip(measures.items(), all_axes, strict=True):
        for place, row in enumerate(found):
            if not (spread := row.measured.get(name)):
                continue
            axes.barh(place, spread.median, height=0.7, color=SERIES[0 if row.system == OURS else 1])
            axes.plot((spread.low, spread.high), (place, place), color=INK, linewidth=1)
            axes.annotate(f" {spread.median:.0f}", (spread.high, place), va="center", fontsize=8)
        axes.set_title(title)
        axes.set_xlabel("tokens per second")
        axes.set_yticks(range(len(found)), titles)
        axes.margins(x=0.15)
        axes.grid(visible=False, axis="y")
    all_axes[0].invert_yaxis()  # shared: the first row stands on top
    return standalone(made, "engine", "Speed of our engine beside other runtimes")


def _title(row: Row, ppl: float | None) -> str:
    return f"{row.title} (ppl {ppl:.1f})" if ppl else row.title


if __name__ == "__main__":
    main()
