"""Learned weight clipping as published (OmniQuant's LWC, arXiv 2308.13137, eq. 2; MobileQuant, arXiv 2408.13933, §4.1).

    high = σ(a) · max w,    low = σ(b) · min w        per row, or per matrix; a and b start at 4, which clips 1.8 %

The integers of this project take symmetric weights; matrices of other formats can be simulated, not lowered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mobilequant.arch.point import part_of
from mobilequant.models.model import Model
from mobilequant.numerics.qtype import INT4, INT8
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.solvers.learned.piece import Tensors, leaf
from mobilequant.solvers.rounding import nearest_codes
from mobilequant.solvers.straight_through import fake_quantize

_SYMMETRIC = {4: INT4, 8: INT8}
START = 4.0
UNCLIPPED = 20.0  # where σ is one in float32 and has no gradient: nothing is clipped, and stays so
_SMALLEST = 1e-5  # of a scale


@dataclass(frozen=True)
class WeightFormat:
    """How one matrix (or vector of gains) is rounded."""

    num_bits: int
    symmetric: bool
    per_channel: bool


class ClippedWeights:
    """Weights rounded to nearest inside a learned range; ``start`` is what a and b are at first."""

    def __init__(self, model: Model, formats: Mapping[str, WeightFormat], start: float = START) -> None:
        self._formats = dict(formats)
        self._leaves: dict[str, tuple[Tensor, Tensor]] = {}
        for name, each in formats.items():
            rows = len(model.weight(name)) if each.per_channel else 1
            first = torch.full((rows, 1), start, device=model.device)
            self._leaves[name] = (leaf(first), leaf(first))

    def parameters(self, part: str) -> Tensors:
        """Two leaves per matrix."""
        names = [name for name in self._formats if part_of(name) == part]
        highs = {f"{name}.high": self._leaves[name][0] for name in names}
        return highs | {f"{name}.low": self._leaves[name][1] for name in names}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """The rounded matrices of a part."""
        names = [name for name in self._formats if part_of(name) == part]
        return {f"{name}.weight": self._rounded(name, tensors[f"{name}.weight"]) for name in names}

    def _rounded(self, name: str, weight: Tensor) -> Tensor:
        how = self._formats[name]
        rows = weight if how.per_channel else weight.reshape(1, -1)
        scale, zero_point, qmin, qmax = self._grid(name, rows)
        return fake_quantize(rows, scale, zero_point, qmin, qmax).view_as(weight)

    @torch.no_grad()
    def finished(self, tensors: Mapping[str, Tensor], part: str) -> dict[str, QuantizedWeight]:
        """Codes and scales of the matrices of a part; symmetric ones per channel only."""
        names = [name for name in self._formats if part_of(name) == part]
        return {name: self._finished(name, tensors[f"{name}.weight"]) for name in names}

    def _finished(self, name: str, weight: Tensor) -> QuantizedWeight:
        how = self._formats[name]
        if not (how.symmetric and how.per_channel):
            raise ValueError(f"{name}: only symmetric weights per channel have integers here")
        scale, qtype = self._grid(name, weight)[0], _SYMMETRIC[how.num_bits]
        return QuantizedWeight(nearest_codes(weight, scale, qtype), scale[:, 0], qtype)

    def _grid(self, name: str, rows: Tensor) -> tuple[Tensor, Tensor, int, int]:
        """Scale and zero point (R, 1) and the limits of the codes."""
        how, (a, b) = self._formats[name], self._leaves[name]
        high, low = a.sigmoid() * rows.amax(1, keepdim=True), b.sigmoid() * rows.amin(1, keepdim=True)
        if how.symmetric:
            qtype = _SYMMETRIC[how.num_bits]
            scale = (torch.maximum(high.abs(), low.abs()) / qtype.qmax).clamp_min(_SMALLEST)
            return scale, torch.zeros_like(scale), qtype.qmin, qtype.qmax
        qmax = 2**how.num_bits - 1
        scale = ((high - low) / qmax).clamp_min(_SMALLEST)
        return scale, (-low / scale).detach().round(), 0, qmax
