"""The tap of learned ranges as a function of tensors, so that all blocks of one kind can share a compiled function.

kind        which points are rounded, in which formats, how numbers are learned       the same for many blocks
numbers     leaves, where they start, limits of the formats                           those of one block
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.numerics.qtype import QType
from mobilequant.solvers.learned.piece import Tensors
from mobilequant.solvers.straight_through import fake_quantize
from mobilequant.solvers.traced_fake_quantize import traced_fake_quantize


class Parametrization(Protocol):
    """How ranges are written as leaves, and how they come back; everything is (N,), one number per point.

    kinds: what scale leaves and offset leaves are called.
    """

    kinds: tuple[str, str]

    def leaves(self, scale: Tensor, zero_point: Tensor) -> tuple[Tensor, Tensor]:
        """Leaves that give these ranges."""
        ...

    def scale(self, leaves: Tensor, start: Tensor) -> Tensor:
        """Scales, positive."""
        ...

    def zero_point(self, leaves: Tensor, start: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Zero points of formats whose codes run from ``low`` to ``high``."""
        ...

    def gradient_factor(self, size: int, qmax: int) -> float:
        """What the gradients of a point with so many numbers are multiplied by."""
        ...


@dataclass(frozen=True)
class RangeKind:
    """Everything about the ranges of a part that is no tensor.

    learned: the points of ``scales``, ``zero_points``, ``low`` and ``high`` (N,), those with an offset first; fixed:
    points whose numbers are "<point>.scale" and "<point>.zero_point" (). formats: of all of them.
    """

    learned: tuple[str, ...]
    fixed: tuple[str, ...]
    formats: tuple[QType, ...]
    how: Parametrization

    def now(self, numbers: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Scale () and zero point () of each point."""
        found = {name: (numbers[f"{name}.scale"], numbers[f"{name}.zero_point"]) for name in self.fixed}
        if not self.learned:
            return found
        scales, moved, still = self._vectors(numbers)
        pairs = zip(scales.unbind(), (*moved.unbind(), *still.unbind()), strict=True)
        return found | dict(zip(self.learned, pairs, strict=True))

    def grids(self, numbers: Mapping[str, Tensor]) -> Tensors:
        """The same as one tensor (2,) for each point: so the gradients of both are a single sum."""
        found = {n: torch.stack((numbers[f"{n}.scale"], numbers[f"{n}.zero_point"])) for n in self.fixed}
        if not self.learned:
            return found
        scales, *zero_points = self._vectors(numbers)
        grids = torch.stack((scales, torch.cat(zero_points)), dim=1)
        return found | dict(zip(self.learned, grids.unbind(), strict=True))

    def _vectors(self, numbers: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Scales (N,) of the learned points, zero points of those with an offset, and of those without."""
        scale_leaves, offset_leaves, scales, starts, low, high = (numbers[name] for name in NUMBERS)
        free = len(offset_leaves)
        moved = self.how.zero_point(offset_leaves, starts[:free], low[:free], high[:free])
        return self.how.scale(scale_leaves, scales), moved, starts[free:]

    def in_first_block(self) -> RangeKind:
        """The same kind, its points named as if they lay in the first block."""
        learned, fixed = (tuple(map(point.as_first, names)) for names in (self.learned, self.fixed))
        return replace(self, learned=learned, fixed=fixed)


NUMBERS = ("scale_leaves", "offset_leaves", "scales", "zero_points", "low", "high")


class RangeTap:
    """What gives the readers of a point its rounded value."""

    def __init__(self, kind: RangeKind, numbers: Tensors) -> None:
        self.kind, self.numbers = kind, numbers
        self._formats = dict(zip((*kind.learned, *kind.fixed), kind.formats, strict=True))
        self._now: dict[str, tuple[Tensor, Tensor]] = {}  # all points together, when the first is reached
        self._grids: dict[str, Tensor] = {}

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """The value of a point as its readers get it."""
        if name not in self._formats:
            return value
        qtype = self._formats[name]
        factor = self.kind.how.gradient_factor(value[0].numel(), qtype.qmax)  # of one item: batches may be of any size
        if torch.compiler.is_compiling():
            self._grids = self._grids or self.kind.grids(self.numbers)
            return traced_fake_quantize(value, self._grids[name], qtype.qmin, qtype.qmax, gradient_factor=factor)
        self._now = self._now or self.kind.now(self.numbers)
        return fake_quantize(value, *self._now[name], qtype.qmin, qtype.qmax, gradient_factor=factor)

    def in_first_block(self) -> RangeTap:
        """The same tap, its points named as if they lay in the first block."""
        numbers = {point.as_first(name): each for name, each in self.numbers.items()}
        return RangeTap(self.kind.in_first_block(), numbers)
