"""Learned ranges: scale and zero point of every activation as leaves, one vector of each per part of the model.

A point has two numbers, and a model hundreds of points: computed one by one, they would be most of the kernels of a
step. So a part's are computed together, before its points are tapped.

    ``RELATIVE`` (LSQ+, arXiv 2004.09576)     scale = start · exp(a),  zero point = start + 128 · b, rounded

Both leaves are relative, so that one learning rate fits a range of 1e-3 and one of 1e+3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mobilequant.arch.point import part_of
from mobilequant.models.decoder import Tap
from mobilequant.numerics.qparams import QParams
from mobilequant.solvers.learned.piece import Tensors, leaf
from mobilequant.solvers.learned.range_tap import NUMBERS, Parametrization, RangeKind, RangeTap
from mobilequant.solvers.straight_through import round_through

_PAIR = ("scale", "zero_point")
_OFFSET_UNIT = 128.0  # codes per unit of b: half the range


class Relative:
    """Leaves count from the start, gradients are those of LSQ (arXiv 1902.08153, §2.2)."""

    kinds = ("log_scale", "zero_point")

    def leaves(self, scale: Tensor, zero_point: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros."""
        return torch.zeros_like(scale), torch.zeros_like(zero_point)

    def scale(self, leaves: Tensor, start: Tensor) -> Tensor:
        """start · exp(a)."""
        return start * leaves.exp()

    def zero_point(self, leaves: Tensor, start: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """A whole number among the codes."""
        return (start + round_through(_OFFSET_UNIT * leaves)).clamp(low, high)

    def gradient_factor(self, size: int, qmax: int) -> float:
        """1 / √(size · qmax)."""
        return 1 / math.sqrt(size * qmax)


RELATIVE = Relative()


class ActivationRanges:
    """The ranges of a model. ``fixed``: points that are rounded and not learned; ``centred``: those whose zero point
    stays where it is."""

    def __init__(
        self,
        qparams: Mapping[str, QParams],
        device: torch.device,
        fixed: Iterable[str] = (),
        centred: Iterable[str] = (),
        how: Parametrization = RELATIVE,
    ) -> None:
        self._qparams, self._how = dict(qparams), how
        fixed, centred = frozenset(fixed), frozenset(centred)
        self._fixed = {name: as_tensors(qparams[name], device) for name in qparams if name in fixed}
        learned = sorted((name for name in qparams if name not in fixed), key=lambda name: name in centred)
        self._parts: dict[str, _Part] = {}
        for part in dict.fromkeys(map(part_of, learned)):
            names = [name for name in learned if part_of(name) == part]
            free = sum(name not in centred for name in names)
            self._parts[part] = _Part.of({name: qparams[name] for name in names}, free, device, how)

    def parameters(self, part: str) -> Tensors:
        """The scales of all learned points of a part as one leaf, and the offsets of those that have one."""
        mine = self._parts.get(part)
        if mine is None:
            return {}
        named = zip(self._how.kinds, (mine.scale_leaves, mine.offset_leaves), strict=True)
        return {f"{part}.{kind}": leaves for kind, leaves in named if len(leaves)}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """Nothing: activations are rounded by the tap."""
        return {}

    def tap(self, part: str) -> Tap:
        """What gives the readers of a point of this part its rounded value."""
        fixed = [name for name in self._fixed if part_of(name) == part]
        numbers = {f"{n}.{what}": each for n in fixed for what, each in zip(_PAIR, self._fixed[n], strict=True)}
        mine = self._parts.get(part)
        learned = mine.names if mine else ()
        formats = tuple(self._qparams[name].qtype for name in (*learned, *fixed))
        return RangeTap(
            RangeKind(learned, tuple(fixed), formats, self._how), numbers | (mine.numbers() if mine else {})
        )

    @torch.no_grad()
    def finished(self) -> dict[str, QParams]:
        """The learned parameters of every learned point: the offset rounded, and the range made to contain zero."""
        return {
            name: self._finished(name, scale.item(), zero_point.item())
            for part in self._parts
            for name, (scale, zero_point) in self._now(part).items()
        }

    def _finished(self, name: str, scale: float, zero_point: float) -> QParams:
        qtype = self._qparams[name].qtype
        return QParams(scale, min(max(round(zero_point), qtype.qmin), qtype.qmax), qtype)

    def _now(self, part: str) -> dict[str, tuple[Tensor, Tensor]]:
        """Scale () and zero point () of the learned points of a part."""
        mine = self._parts[part]
        return RangeKind(mine.names, (), (), self._how).now(mine.numbers())


@dataclass(frozen=True)
class _Part:
    """The learned points of one part, those with an offset first, and where they start; all (N,), offsets fewer."""

    names: tuple[str, ...]
    scale_leaves: Tensor
    offset_leaves: Tensor
    scales: Tensor
    zero_points: Tensor
    low: Tensor
    high: Tensor

    def numbers(self) -> Tensors:
        """All tensors by name."""
        return {name: getattr(self, name) for name in NUMBERS}

    @classmethod
    def of(cls, qparams: Mapping[str, QParams], free: int, device: torch.device, how: Parametrization) -> _Part:
        def vector(values: Iterable[float]) -> Tensor:
            return torch.tensor(list(values), dtype=torch.float32, device=device)

        scales, zero_points = (
            vector(each.scale for each in qparams.values()),
            vector(each.zero_point for each in qparams.values()),
        )
        low, high = (
            vector(each.qtype.qmin for each in qparams.values()),
            vector(each.qtype.qmax for each in qparams.values()),
        )
        scale_leaves, offset_leaves = how.leaves(scales, zero_points)
        return cls(tuple(qparams), leaf(scale_leaves), leaf(offset_leaves[:free]), scales, zero_points, low, high)


def as_tensors(qparams: QParams, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale () and zero point (), float32."""
    return torch.tensor(qparams.scale, device=device), torch.tensor(float(qparams.zero_point), device=device)
