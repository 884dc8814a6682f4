"""What training may move: a piece holds leaf tensors and rewrites the tensors of one part of the model with them.

A *part* is what is computed at a time: a block ("layers.3"), or "head" (final norm and lm_head). Pieces are applied
one after another, so that each sees what the pieces before it leave: scale pairs first, rounding of weights last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from mobilequant.arch import point

HEAD = "head"

Tensors = dict[str, Tensor]


class Piece(Protocol):
    """Learned quantities in all parts of a model."""

    def parameters(self, part: str) -> Tensors:
        """The leaves of one part, by unique names whose last part says which kind of leaf it is."""
        ...

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """The tensors that the piece changes in a part, differentiable in its leaves."""
        ...


def part_of(name: str) -> str:
    """The part in which a linear, a norm or an activation lies: ``part_of("layers.3.down") == "layers.3"``."""
    return f"layers.{point.layer_of(name)}" if name.startswith("layers.") else HEAD


def leaf(value: Tensor) -> Tensor:
    """A float32 copy that gradients reach."""
    return value.detach().clone().float().requires_grad_()
