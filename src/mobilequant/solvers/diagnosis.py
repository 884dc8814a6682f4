"""Where a student breaks: the first tensor that is not finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mobilequant.models.decoder import Tap
from mobilequant.numerics.qparams import QParams
from mobilequant.solvers.learned.piece import Tensors
from mobilequant.solvers.student import Ranges, Student


@torch.no_grad()
def first_broken(student: Student, tokens: Tensor) -> str:
    """The first leaf, or else the first activation of tokens (B, T), that holds NaN or infinity; "" where none does."""
    for name, leaf in student.parameters(student.parts()).items():
        if not bool(leaf.isfinite().all()):
            return name
    watched = _Watched(student.ranges)
    seen = replace(student, ranges=watched)
    seen.head(seen.body(tokens))
    return next(iter(watched.broken), "")


@dataclass(frozen=True)
class _Watched:
    """Ranges that remember which of their points were not finite."""

    ranges: Ranges
    broken: list[str] = field(default_factory=list)

    def tap(self, part: str) -> Tap:
        inner = self.ranges.tap(part)

        def watched(name: str, value: Tensor) -> Tensor:
            if not bool(value.isfinite().all()):
                self.broken.append(name)
            return inner(name, value)

        return watched

    def parameters(self, part: str) -> Tensors:
        return self.ranges.parameters(part)

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        return self.ranges.rewrite(tensors, part)

    def finished(self) -> dict[str, QParams]:
        return self.ranges.finished()
