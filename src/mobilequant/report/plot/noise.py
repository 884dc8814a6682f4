"""Where the error arises and how it adds up: SQNR by layer and role, and along the residual stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mobilequant.evaluate.sqnr import SqnrRow
from mobilequant.report.plot.canvas import MUTED, SERIES, figure, label, styled, to_svg
from mobilequant.report.schema import SqnrTable

_RESIDUAL = "mlp_residual"
_EDGES_DB = (0, 5, 10, 15, 20, 25, 30, 35, 40)
_NO_NOISE_DB = 99.0
_SHAPES = "os^Dv"


@styled
def residual_plot(tables: Sequence[SqnrTable]) -> str | None:
    """SQNR of the residual stream after each layer, one line per model; None if no table has it."""
    lines = [(table.label, rows) for table in tables if (rows := _of_role(table.rows, _RESIDUAL))]
    if not lines:
        return None
    made, (axes,) = figure(8.6, 2.9)
    for (name, rows), colour, shape in zip(lines, SERIES, _SHAPES, strict=False):
        layers, values = [row.layer or 0 for row in rows], [_db(row) for row in rows]
        axes.plot(layers, values, color=colour, lw=1.5, marker=shape, ms=4, label=label(name))
    axes.set_xlabel("layer")
    axes.set_ylabel("SQNR of the residual, dB")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best", fontsize=9)
    return to_svg(made, "residual", "Signal-to-noise ratio of the residual stream by layer")


@styled
def heat_map(table: SqnrTable, name: str) -> str | None:
    """SQNR of every role in every layer; None if the table has no layers."""
    rows = [row for row in table.rows if row.layer is not None]
    if not rows:
        return None
    roles = list(dict.fromkeys(row.role for row in rows))
    layers = sorted({row.layer for row in rows if row.layer is not None})
    grid = np.full((len(roles), len(layers)), np.nan)
    for row in rows:
        grid[roles.index(row.role), layers.index(row.layer or 0)] = _db(row)
    made, (axes,) = figure(8.6, 0.75 + 0.205 * len(roles))
    _draw_cells(made, axes, grid)
    axes.set_yticks(np.arange(len(roles)) + 0.5, [label(role) for role in roles])
    step = max(1, len(layers) // 16)
    axes.set_xticks(np.arange(0, len(layers), step) + 0.5, [str(layer) for layer in layers[::step]])
    axes.set_xlabel("layer")
    return to_svg(made, name, f"Signal-to-noise ratio by role and layer of {table.label}")


def _draw_cells(made: Figure, axes: Axes, grid: np.ndarray) -> None:
    colours = BoundaryNorm(_EDGES_DB, 256, extend="both")
    cells = axes.pcolormesh(np.ma.masked_invalid(grid), cmap="RdYlBu", norm=colours, edgecolors="none", linewidth=0)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = made.colorbar(cells, ax=axes, ticks=_EDGES_DB[::2], pad=0.01, aspect=26, label="SQNR, dB")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelcolor=MUTED)
    bar.ax.grid(visible=False)


def _of_role(rows: Sequence[SqnrRow], role: str) -> list[SqnrRow]:
    return sorted((row for row in rows if row.role == role), key=lambda row: row.layer or 0)


def _db(row: SqnrRow) -> float:
    return _NO_NOISE_DB if row.sqnr_db is None else row.sqnr_db
