"""The distribution of an activation, and the range that loses least when its values become integers.

The histogram is on a symmetric logarithmic grid: 32 cells per octave from 2^−32 to 2^32 on both sides of zero. A cell
index is read off the bits of a float32 (sign, exponent, five bits of mantissa), so that no range has to be known before
the data, one pass is enough, and a tail a million times the median is resolved as well as the bulk.

    float32   s eeeeeeee mmmmm mmmmmmmmmmmmmmmmmm
              └ side └─── cell ──┘  dropped
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mobilequant.numerics.qtype import QType
from mobilequant.observe.minmax import RunningExtremes
from mobilequant.observe.rounding_error import Grid, mean_errors

_CELL_BITS = 5
_LOWEST_EXPONENT, _OCTAVES = -32, 64
_CELLS = _OCTAVES << _CELL_BITS  # per side
_EXPONENT_BIAS = 127
_PATTERNS = 1 << (1 + 8 + _CELL_BITS)
# A value this far below the largest one is rounded to zero or exactly represented by every candidate alike.
_NEGLIGIBLE = 2.0**-22
# Coarse to fine: exponents of two by which an end of the range may shrink; the first round reaches 2^−12.
_FIRST_ROUND = tuple(float(k) for k in range(13))
_ROUNDS = ((0.25, 3), (0.0625, 3), (0.015625, 3))  # (step, steps to either side)


@dataclass(frozen=True)
class RangeStatistic:
    """All values of one point. ``keep``: a range never to be clipped.

    counts: (2, cells), side 1 negative.
    """

    low: float
    high: float
    counts: Tensor
    keep: tuple[float, float] = (0.0, 0.0)

    def minmax(self) -> tuple[float, float]:
        """Everything that was seen, and zero."""
        return min(self.low, self.keep[0]), max(self.high, self.keep[1])

    def percentile(self, percent: float) -> tuple[float, float]:
        """The range that holds ``percent`` of the values, the same share cut from both ends."""
        edges, counts = self._cells()
        share = counts.cumsum(0) / counts.sum()
        cumulative = torch.cat((torch.zeros(1, dtype=share.dtype), share))
        tail = (1.0 - percent / 100.0) / 2.0
        low, high = (_interpolate(cumulative, edges, level) for level in (tail, 1.0 - tail))
        return min(low, self.keep[0]), max(high, self.keep[1])

    def optimal(self, qtype: QType, p: float, *, symmetric: bool) -> tuple[float, float]:
        """The range with the smallest expected |x − quantized(x)|^p; both ends shrink independently.

        Never worse than ``minmax`` under that measure. Symmetric: (−bound, bound) with the zero point in the middle.
        """
        low, high = self.minmax()
        if symmetric:
            low, high = -max(-low, high), max(-low, high)
        exponents = (_FIRST_ROUND if low < 0 and not symmetric else (0.0,), _FIRST_ROUND if high > 0 else (0.0,))
        best = self._best(low, high, exponents, qtype, p, symmetric)
        for step, reach in _ROUNDS:
            around = [step * k for k in range(-reach, reach + 1)]
            exponents = (_refined(exponents[0], best[0], around), _refined(exponents[1], best[1], around))
            best = self._best(low, high, exponents, qtype, p, symmetric)
        ends = self._shrunk(low, high, torch.tensor([best], dtype=torch.float64), symmetric)
        return ends[0].item(), ends[1].item()

    def expected_error(self, low: float, high: float, qtype: QType, p: float, *, symmetric: bool = False) -> float:
        """Mean |x − quantized(x)|^p of the histogram for one range, clipping and rounding both counted."""
        ends = torch.tensor([low], dtype=torch.float64), torch.tensor([high], dtype=torch.float64)
        return self._errors(*ends, qtype, p, symmetric).item()

    def _best(
        self, low: float, high: float, exponents: tuple[tuple[float, ...], ...], qtype: QType, p: float, symmetric: bool
    ) -> tuple[float, float]:
        candidates = torch.cartesian_prod(*(torch.tensor(side, dtype=torch.float64) for side in exponents))
        errors = self._errors(*self._shrunk(low, high, candidates, symmetric), qtype, p, symmetric)
        chosen = candidates[int(errors.argmin())]
        return chosen[0].item(), chosen[1].item()

    def _shrunk(self, low: float, high: float, exponents: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
        """Ends (K,) of the candidate ranges, ``keep`` never cut."""
        highs = high * torch.exp2(-exponents[:, 1])
        if symmetric:
            highs = highs.clamp_min(max(-self.keep[0], self.keep[1]))
            return -highs, highs
        lows = low * torch.exp2(-exponents[:, 0])
        return lows.clamp_max(self.keep[0]), highs.clamp_min(self.keep[1])

    def _errors(self, lows: Tensor, highs: Tensor, qtype: QType, p: float, symmetric: bool) -> Tensor:
        edges, counts = self._cells()
        return mean_errors(edges, counts, Grid.over(lows, highs, qtype, symmetric), p)

    def _cells(self) -> tuple[Tensor, Tensor]:
        """Cell edges (n + 1,) in rising order, cut to what was seen, and counts (n,); the smallest cells merged."""
        edges = _cell_edges()
        first = int(torch.searchsorted(edges, _NEGLIGIBLE * max(-self.low, self.high)))
        merged = torch.cat((edges.new_zeros(1), edges[max(first, 1) :]))
        sides = [
            torch.cat((side[:first].sum()[None], side[first:])) if first else side for side in self.counts.double()
        ]
        signed = torch.cat((-merged.flip(0), merged[1:]))
        return signed.clamp(self.low, self.high), torch.cat((sides[1].flip(0), sides[0]))


class RangeCollector:
    """Running histogram and extremes, both where the values are."""

    def __init__(self) -> None:
        self._extremes, self._kept = RunningExtremes(), RunningExtremes()
        self._counts: Tensor | None = None

    def see(self, value: Tensor) -> None:
        """Count every value of a batch."""
        flat = value.detach().flatten().float()
        self._extremes.widen(flat)
        self._add(torch.bincount(_patterns(flat), minlength=_PATTERNS))

    def see_constant(self, value: Tensor) -> None:
        """Constant entries are read with every token: no estimator may cut them."""
        self._kept.widen(value)

    def merge(self, other: RangeCollector) -> None:
        """Counts add up, extremes widen."""
        self._extremes.merge(other._extremes)
        self._kept.merge(other._kept)
        if other._counts is not None:
            self._add(other._counts)

    def result(self) -> RangeStatistic:
        """The distribution so far."""
        cells = torch.zeros(2 * _CELLS, dtype=torch.int64)
        if self._counts is not None:
            cells.index_add_(0, _cell_of_pattern(), self._counts.cpu())
        low, high = self._kept.ends()
        return RangeStatistic(*self._extremes.ends(), cells.view(2, _CELLS), (min(0.0, low), max(0.0, high)))

    def _add(self, counts: Tensor) -> None:
        self._counts = counts if self._counts is None else self._counts + counts


def _refined(grid: tuple[float, ...], centre: float, around: list[float]) -> tuple[float, ...]:
    """The next, finer exponents of one end; an end that may not move keeps its single candidate."""
    return grid if len(grid) == 1 else tuple(max(centre + delta, 0.0) for delta in around)


def _patterns(flat: Tensor) -> Tensor:
    """The leading bits of float32 values: sign, exponent and _CELL_BITS of mantissa."""
    return (flat.contiguous().view(torch.int32) >> (23 - _CELL_BITS)).bitwise_and_(_PATTERNS - 1)


@lru_cache(maxsize=1)
def _cell_of_pattern() -> Tensor:
    """Index of the cell (side, magnitude) for every pattern."""
    pattern = torch.arange(_PATTERNS)
    negative, magnitude = pattern >> (8 + _CELL_BITS), pattern & (_PATTERNS // 2 - 1)
    cell = magnitude - ((_EXPONENT_BIAS + _LOWEST_EXPONENT) << _CELL_BITS)
    return cell.clamp_(0, _CELLS - 1) + negative * _CELLS


@lru_cache(maxsize=1)
def _cell_edges() -> Tensor:
    """Magnitudes (cells + 1,) between the cells; the first cell reaches down to zero."""
    index = torch.arange(_CELLS + 1, dtype=torch.float64)
    per_octave = 1 << _CELL_BITS
    edges = torch.exp2(_LOWEST_EXPONENT + torch.floor(index / per_octave)) * (1 + index % per_octave / per_octave)
    edges[0] = 0.0
    return edges


def _interpolate(cumulative: Tensor, edges: Tensor, level: float) -> float:
    """The value below which the share ``level`` lies, linear inside a cell."""
    cell = min(max(int(torch.searchsorted(cumulative, level)), 1), len(edges) - 1)
    before, after = cumulative[cell - 1].item(), cumulative[cell].item()
    inside = (level - before) / (after - before) if after > before else 0.0
    low, high = edges[cell - 1].item(), edges[cell].item()
    return low + (high - low) * min(max(inside, 0.0), 1.0)
