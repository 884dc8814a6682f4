"""Weights that are rounded in every forward pass, with what may be learned about it.

    scale = covering scale of the row × share,     weight → clamp(⌊weight/scale + offset + ½⌋) · scale

``share`` (one number per row) cuts or stretches the range: learned weight clipping. ``offset`` (one number per weight,
in steps, at most half of one) moves a weight over the edge to its other neighbour: learned rounding as in SignRound
(arXiv 2309.05516, eq. 3). It starts at zero, or where it gives the codes of another method.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from mobilequant.arch.point import part_of
from mobilequant.models.model import Model
from mobilequant.numerics.qtype import QType
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.group_scale import integer_groups
from mobilequant.solvers.learned.piece import Tensors, leaf
from mobilequant.solvers.rounded_row import LARGEST_OFFSET, covering, moved, round_rows
from mobilequant.solvers.rounding import nearest_codes

Offset = Literal["none", "rounding"]
_SMALLEST_SHARE = 1e-3
_REACH = LARGEST_OFFSET - 0.1  # steps from the middle of a code, where a weight may start


class RoundedWeights:
    """Symmetric weights per output channel or group, in the formats of a scheme.

    scales: (R,) of every matrix, where its ranges start; its names are the matrices that are rounded. codes: where
    offsets start that do not start at zero, as near as half a step goes (``within_reach`` is for the rest).
    """

    def __init__(
        self,
        model: Model,
        scheme: Scheme,
        scales: Mapping[str, Tensor],
        offset: Offset = "none",
        codes: Mapping[str, QuantizedWeight] = MappingProxyType({}),
    ) -> None:
        self._scheme = scheme
        self._shares: dict[str, Tensor] = {}
        self._offsets: dict[str, Tensor] = {}
        for name, wanted in scales.items():
            rows, qtype = self._rows(name, model.weight(name).float()), scheme.weight_qtype(name)
            share = wanted / covering(rows, qtype)
            self._shares[name] = leaf(share.clamp_min(_SMALLEST_SHARE).log())
            if offset != "none":
                self._offsets[name] = leaf(_start(rows, wanted[:, None], codes.get(name)))

    def parameters(self, part: str) -> Tensors:
        """Shares of the rows of every matrix, and offsets of its weights where they are learned."""
        names = [name for name in self._shares if part_of(name) == part]
        shares = {f"{name}.share": self._shares[name] for name in names}
        return shares | {f"{name}.offset": self._offsets[name] for name in names if name in self._offsets}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """The rounded matrices of a part."""
        names = [name for name in self._shares if part_of(name) == part]
        if not names:
            return {}
        with torch.no_grad():  # all at once: on a GPU each would be a kernel
            growths = torch._foreach_exp([self._shares[name] for name in names])
        return {f"{n}.weight": self._rounded(n, tensors, each) for n, each in zip(names, growths, strict=True)}

    def _rounded(self, name: str, tensors: Mapping[str, Tensor], growth: Tensor) -> Tensor:
        weight = tensors[f"{name}.weight"]
        rows, qtype = self._rows(name, weight), self._scheme.weight_qtype(name)
        return round_rows(rows, self._shares[name], self._offsets.get(name), qtype, growth).view_as(weight)

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


def within_reach(weight: Tensor, codes: QuantizedWeight) -> Tensor:
    """The weight (O, I), moved where its code is no neighbour, as GPTQ leaves some: just so far that it is one."""
    scale = codes.element_scale()
    places = weight / scale
    low, high = _bounds(codes.codes.to(places), LARGEST_OFFSET + _REACH, codes.qtype)
    return torch.where((places < low) | (places > high), places.clamp(low, high) * scale, weight)


def _start(rows: Tensor, scale: Tensor, codes: QuantizedWeight | None) -> Tensor:
    """The least offsets (R, W) that bring rows into the cells of their codes and away from the edges; zeros without."""
    if codes is None:
        return torch.zeros_like(rows)
    places = rows / scale
    low, high = _bounds(codes.codes.to(rows).view_as(rows), _REACH, codes.qtype)
    return (places.clamp(low, high) - places).clamp(-LARGEST_OFFSET, LARGEST_OFFSET)


def _bounds(codes: Tensor, reach: float, qtype: QType) -> tuple[Tensor, Tensor]:
    """What is at most ``reach`` steps from its code; the first and the last code hold all that lies beyond."""
    low = torch.where(codes <= qtype.qmin, -torch.inf, codes - reach)
    high = torch.where(codes >= qtype.qmax, torch.inf, codes + reach)
    return low, high
