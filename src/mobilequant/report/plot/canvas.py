"""From a matplotlib figure to inline SVG that takes its colours and fonts from the page.

Every colour drawn is a placeholder that becomes a CSS variable, so that one drawing serves light, dark and print.
Figures are made without pyplot, and settings hold only while one is drawn: the process keeps its own.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import wraps
from importlib.resources import files
from typing import ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

Arguments = ParamSpec("Arguments")
Drawing = TypeVar("Drawing")

_LABEL_LENGTH = 48

# Placeholder → CSS variable of page.css.
INK, MUTED, GRID, ALARM = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"
SERIES = ("#0a0b11", "#0a0b12", "#0a0b13", "#0a0b14", "#0a0b15", "#0a0b16", "#0a0b17", "#0a0b18")
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", ALARM: "--alarm"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, start=1)
}

_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # labels come from strangers: a "$" is a "$"
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def figure(width_in: float, height_in: float, columns: int = 1) -> tuple[Figure, tuple[Axes, ...]]:
    """An empty figure with ``columns`` axes side by side and a common vertical axis (call it in ``styled``)."""
    made = Figure(figsize=(width_in, height_in), layout="constrained")
    return made, tuple(made.subplots(1, columns, sharey=True, squeeze=False)[0])


def styled(draw: Callable[Arguments, Drawing]) -> Callable[Arguments, Drawing]:
    """Decorator: everything that ``draw`` makes has the report's style, and the process keeps its own."""

    @wraps(draw)
    def within(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Drawing:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return within


def label(text: str) -> str:
    """Foreign text as a legend entry: not too long, and never hidden, as matplotlib hides what begins with "_"."""
    short = text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 1] + "…"
    return f" {short}" if short.startswith("_") else short


def log_axis(axes: Axes, linear_below: float | None = None) -> None:
    """A logarithmic vertical axis whose decades are spelled as plain numbers.

    Values between ``-linear_below`` and ``linear_below`` are drawn in proportion, zero among them.
    """
    if linear_below is None:
        axes.set_yscale("log")
    else:
        axes.set_yscale("symlog", linthresh=linear_below)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    axes.tick_params(axis="y", which="minor", length=0, labelleft=False)


def to_svg(made: Figure, name: str, alt: str) -> str:
    """The figure as an ``<svg>`` element. ``name`` keeps its ids apart from others; ``alt`` says what it shows."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        FigureCanvasSVG(made).print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _inline(buffer.getvalue(), alt)


def standalone(made: Figure, name: str, alt: str) -> str:
    """The figure as a file of its own, with the report's colours, light and dark."""
    drawing = to_svg(made, name, alt)
    page = (files("mobilequant.report") / "template" / "page.css").read_text(encoding="utf-8")
    colours = page[: page.index("body {")]
    opening, body = drawing.split(">", 1)
    opening = opening.replace(
        "<svg", '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    )
    return f'{opening}><style>{colours}</style><rect width="100%" height="100%" fill="var(--page)"/>{body}'


def _inline(document: str, alt: str) -> str:
    """Only the drawing: no prolog, namespaces or metadata, colours by variable, an accessible name."""
    view = re.search(r'viewBox="([\d. ]+)"', document)
    start, end = document.index(">", document.index("<svg")) + 1, document.rindex("</svg>")
    body = re.sub(r"<metadata>.*?</metadata>", "", document[start:end], flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*">', "<g>", body)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    box = view.group(1) if view else "0 0 1 1"
    width = box.split()[2]
    return f'<svg viewBox="{box}" style="--natural:{width}" role="img" aria-label="{_attribute(alt)}">{body}</svg>'


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
