"""Learned ranges: scale and zero point of every 8-bit activation as leaves (LSQ+, arXiv 2004.09576).

    scale = start · exp(a),     zero point = start + 128 · b, rounded to a whole number

Both leaves are relative, so that one learning rate fits a range of 1e-3 and one of 1e+3. Activations of 16 bits pass
unrounded: their step is below anything that training could see.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import INT16
from mobilequant.solvers.learned.piece import Tensors, leaf, part_of
from mobilequant.solvers.straight_through import fake_quantize, round_through, with_gradient_scale

_OFFSET_UNIT = 128.0  # codes per unit of b: half the range


class ActivationRanges:
    """The taps of a model. ``fixed``: points that are rounded and not learned; ``centred``: those whose zero point
    stays where it is."""

    def __init__(
        self, qparams: Mapping[str, QParams], device: torch.device, fixed: Iterable[str], centred: Iterable[str]
    ) -> None:
        self._start = {name: each for name, each in qparams.items() if each.qtype != INT16}
        fixed, centred = frozenset(fixed), frozenset(centred)
        learned = [name for name in self._start if name not in fixed]
        zero = torch.zeros((), device=device)
        self._scales = {name: leaf(zero) for name in learned}
        self._offsets = {name: leaf(zero) for name in learned if name not in centred}
        self._zero = zero

    def parameters(self, part: str) -> Tensors:
        """Two leaves per point, or one where the zero point is fixed."""
        scales = {f"{name}.log_scale": each for name, each in self._scales.items() if part_of(name) == part}
        return scales | {f"{name}.zero_point": each for name, each in self._offsets.items() if part_of(name) == part}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """Nothing: activations are rounded by ``tap``."""
        return {}

    def tap(self, name: str, value: Tensor) -> Tensor:
        """The value as its readers get it."""
        start = self._start.get(name)
        if start is None:
            return value
        scale, zero_point = self._now(name, value[0].numel())  # of one item: batches may be of any size
        return fake_quantize(value, scale, zero_point, start.qtype.qmin, start.qtype.qmax)

    def _now(self, name: str, size: int) -> tuple[Tensor, Tensor]:
        start, lessen = self._start[name], 1 / math.sqrt(size * self._start[name].qtype.qmax)
        a, b = self._scales.get(name, self._zero), self._offsets.get(name, self._zero)
        scale = start.scale * with_gradient_scale(a, lessen).exp()
        zero_point = start.zero_point + round_through(_OFFSET_UNIT * with_gradient_scale(b, lessen))
        return scale, zero_point.clamp(start.qtype.qmin, start.qtype.qmax)

    @torch.no_grad()
    def finished(self) -> dict[str, QParams]:
        """The learned parameters of every learned point."""
        found = {}
        for name in self._scales:
            scale, zero_point = self._now(name, 1)
            found[name] = QParams(scale.item(), round(zero_point.item()), self._start[name].qtype)
        return found
