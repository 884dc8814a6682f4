"""Learned ranges as MobileQuant publishes them (arXiv 2408.13933, §4.2): scale α and offset β themselves as leaves.

β is never rounded in training, nothing relates a learning rate to the size of a range, and activations of 16 bits are
rounded and learned like all others. Only that a scale stays positive is ours: an absolute step can be larger than it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mobilequant.numerics.qparams import QParams
from mobilequant.solvers.learned.piece import Tensors, leaf, part_of
from mobilequant.solvers.straight_through import fake_quantize

_SMALLEST = 1e-3  # of the scale that was measured


class PublishedRanges:
    """The taps of a model. ``fixed``: points that are rounded and not learned; ``centred``: those whose zero point
    stays where it is."""

    def __init__(
        self,
        qparams: Mapping[str, QParams],
        device: torch.device,
        fixed: Iterable[str] = (),
        centred: Iterable[str] = (),
    ) -> None:
        self._start = dict(qparams)
        fixed, unmoved = frozenset(fixed), frozenset(centred) | frozenset(fixed)
        self._scales = {name: leaf(torch.tensor(each.scale, device=device)) for name, each in qparams.items()}
        self._offsets = {
            name: leaf(torch.tensor(float(each.zero_point), device=device)) for name, each in qparams.items()
        }
        self._learned = {name: (name not in fixed, name not in unmoved) for name in qparams}

    def parameters(self, part: str) -> Tensors:
        """Two leaves per point, or one where the zero point stays."""
        mine = {name: learned for name, learned in self._learned.items() if part_of(name) == part}
        scales = {f"{name}.scale": self._scales[name] for name, (scale, _) in mine.items() if scale}
        return scales | {f"{name}.offset": self._offsets[name] for name, (_, offset) in mine.items() if offset}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """Nothing: activations are rounded by ``tap``."""
        return {}

    def tap(self, name: str, value: Tensor) -> Tensor:
        """The value as its readers get it."""
        start = self._start.get(name)
        if start is None:
            return value
        return fake_quantize(value, self._scale(name), self._offsets[name], start.qtype.qmin, start.qtype.qmax)

    def _scale(self, name: str) -> Tensor:
        return self._scales[name].clamp_min(_SMALLEST * self._start[name].scale)

    @torch.no_grad()
    def finished(self) -> dict[str, QParams]:
        """The learned parameters; only now is the offset rounded, and the range made to contain zero."""
        return {name: self._finished(name) for name, (scale, _) in self._learned.items() if scale}

    def _finished(self, name: str) -> QParams:
        qtype, offset = self._start[name].qtype, round(self._offsets[name].item())
        return QParams(self._scale(name).item(), min(max(offset, qtype.qmin), qtype.qmax), qtype)
