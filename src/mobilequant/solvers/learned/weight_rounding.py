"""Weights that are rounded in every forward pass, with what may be learned about it.

    scale = covering scale of the row × share,     weight → clamp(⌊weight/scale + offset + ½⌋) · scale

``share`` (one number per row) cuts or stretches the range: learned weight clipping. ``offset`` (one number per weight,
in steps, at most half of one) moves a weight over the edge to its other neighbour: learned rounding as in SignRound
(arXiv 2309.05516, eq. 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from mobilequant.arch.point import part_of
from mobilequant.models.model import Model
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.group_scale import integer_groups
from mobilequant.solvers.learned.piece import Tensors, leaf
from mobilequant.solvers.rounded_row import covering, moved, round_rows
from mobilequant.solvers.rounding import nearest_codes

Offset = Literal["none", "rounding"]
_SMALLEST_SHARE = 1e-3


class RoundedWeights:
    """Symmetric weights per output channel or group, in the formats of a scheme.

    scales: (R,) of every matrix, where its ranges start; its names are the matrices that are rounded.
    """

    def __init__(self, model: Model, scheme: Scheme, scales: Mapping[str, Tensor], offset: Offset = "none") -> None:
        self._scheme = scheme
        self._shares: dict[str, Tensor] = {}
        self._offsets: dict[str, Tensor] = {}
        for name, wanted in scales.items():
            rows = self._rows(name, model.weight(name).float())
            share = wanted / covering(rows, scheme.weight_qtype(name))
            self._shares[name] = leaf(share.clamp_min(_SMALLEST_SHARE).log())
            if offset != "none":
                self._offsets[name] = leaf(torch.zeros_like(rows))

    def parameters(self, part: str) -> Tensors:
        """Shares of the rows of every matrix, and offsets of its weights where they are learned."""
        names = [name for name in self._shares if part_of(name) == part]
        shares = {f"{name}.share": self._shares[name] for name in names}
        return shares | {f"{name}.offset": self._offsets[name] for name in names if name in self._offsets}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """The rounded matrices of a part."""
        return {f"{n}.weight": self._rounded(n, tensors) for n in self._shares if part_of(n) == part}

    def _rounded(self, name: str, tensors: Mapping[str, Tensor]) -> Tensor:
        weight = tensors[f"{name}.weight"]
        rows, qtype = self._rows(name, weight), self._scheme.weight_qtype(name)
        return round_rows(rows, self._shares[name], self._offsets.get(name), qtype).view_as(weight)

    def _rows(self, name: str, weight: Tensor) -> Tensor:
        """Whatever shares one scale, as rows (R, W)."""
        width = self._scheme.weight_group_size(name) or weight.shape[1]
        return weight.reshape(-1, width)

    @torch.no_grad()
    def finished(self, tensors: Mapping[str, Tensor], part: str) -> dict[str, QuantizedWeight]:
        """The integer codes and scales of every matrix of a part."""
        return {name: self._finished(name, tensors) for name in self._shares if part_of(name) == part}

    def _finished(self, name: str, tensors: Mapping[str, Tensor]) -> QuantizedWeight:
        weight, qtype = tensors[f"{name}.weight"], self._scheme.weight_qtype(name)
        rows = self._rows(name, weight)
        wanted = covering(rows, qtype) * self._shares[name].exp()
        shifted = moved(rows, self._offsets.get(name), wanted[:, None]).view_as(weight)
        scale = integer_groups(wanted, len(weight), self._scheme.weight_group_size(name))
        return scale.with_codes(nearest_codes(shifted, scale.elements(weight.shape[1]), qtype), qtype)
