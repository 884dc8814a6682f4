"""Learned ranges as MobileQuant publishes them (arXiv 2408.13933, §4.2): scale α and offset β themselves as leaves.

β is never rounded in training, nothing relates a learning rate to the size of a range, and activations of 16 bits are
rounded and learned like all others.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mobilequant.numerics.qparams import QParams
from mobilequant.solvers.learned.piece import Tensors, leaf, part_of
from mobilequant.solvers.straight_through import fake_quantize


class PublishedRanges:
    """The taps of a model, every one of them learned."""

    def __init__(self, qparams: Mapping[str, QParams], device: torch.device) -> None:
        self._start = dict(qparams)
        self._leaves = {
            name: (
                leaf(torch.tensor(each.scale, device=device)),
                leaf(torch.tensor(float(each.zero_point), device=device)),
            )
            for name, each in qparams.items()
        }

    def parameters(self, part: str) -> Tensors:
        """Two leaves per point."""
        names = [name for name in self._leaves if part_of(name) == part]
        scales = {f"{name}.scale": self._leaves[name][0] for name in names}
        return scales | {f"{name}.offset": self._leaves[name][1] for name in names}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """Nothing: activations are rounded by ``tap``."""
        return {}

    def tap(self, name: str, value: Tensor) -> Tensor:
        """The value as its readers get it."""
        if name not in self._leaves:
            return value
        scale, offset = self._leaves[name]
        qtype = self._start[name].qtype
        return fake_quantize(value, scale, offset, qtype.qmin, qtype.qmax)

    @torch.no_grad()
    def finished(self) -> dict[str, QParams]:
        """The learned parameters; only now is the offset rounded, and the range made to contain zero."""
        found = {}
        for name, (scale, offset) in self._leaves.items():
            qtype = self._start[name].qtype
            zero_point = min(max(round(offset.item()), qtype.qmin), qtype.qmax)
            found[name] = QParams(scale.item(), zero_point, qtype)
        return found
