"""Codes that may leave their place: the weights are trained in units of their own grid.

    weight[o, i] = clamp(⌊codes[o, i] + offset[o, i] + ½⌋) · scale[o] · exp(leaf[o])

The offsets start at zero, in the middle of each code: half a step of them changes nothing yet. The scale carries all
codes of its row with it, as in ``FixedCodes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mobilequant.arch.point import part_of
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.solvers.learned.piece import Tensors, leaf
from mobilequant.solvers.straight_through import fake_quantize


class MovedCodes:
    """One offset per weight and one factor per row; group multipliers stay."""

    def __init__(self, weights: Mapping[str, QuantizedWeight]) -> None:
        self._weights = dict(weights)
        self._offsets = {
            name: leaf(torch.zeros_like(weight.codes, dtype=torch.float32)) for name, weight in weights.items()
        }
        self._factors = {name: leaf(torch.zeros_like(weight.scale)) for name, weight in weights.items()}

    def parameters(self, part: str) -> Tensors:
        """Two leaves per matrix."""
        names = [name for name in self._weights if part_of(name) == part]
        offsets = {f"{name}.offset": self._offsets[name] for name in names}
        return offsets | {f"{name}.row_scale": self._factors[name] for name in names}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """The matrices of a part on their grids."""
        return {f"{name}.weight": self._now(name) for name in self._weights if part_of(name) == part}

    @torch.no_grad()
    def finished(self, tensors: Mapping[str, Tensor], part: str) -> dict[str, QuantizedWeight]:
        """The codes where they are now, with the learned scales."""
        return {name: self._finished(name) for name in self._weights if part_of(name) == part}

    def _now(self, name: str) -> Tensor:
        return self._codes(name) * self._weights[name].element_scale() * self._factors[name].exp()[:, None]

    def _codes(self, name: str) -> Tensor:
        weight, one = self._weights[name], torch.ones((), device=self._offsets[name].device)
        places = weight.codes + self._offsets[name]
        return fake_quantize(places, one, torch.zeros_like(one), weight.qtype.qmin, weight.qtype.qmax)

    def _finished(self, name: str) -> QuantizedWeight:
        weight = self._weights[name]
        codes = self._codes(name).to(weight.codes.dtype)
        return replace(weight, codes=codes, scale=weight.scale * self._factors[name].exp())
