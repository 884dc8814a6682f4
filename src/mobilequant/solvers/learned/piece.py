"""What training may move: a piece holds leaf tensors and rewrites the tensors of one part of the model with them.

A *part* is what is computed at a time: a block ("layers.3"), or "head" (final norm and lm_head). The last part of a
leaf's name says of which kind it is; the kind chooses the learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from mobilequant.numerics.weight import QuantizedWeight

Tensors = dict[str, Tensor]


class Piece(Protocol):
    """Learned quantities in all parts of a model."""

    def parameters(self, part: str) -> Tensors:
        """The leaves of one part, by unique names."""
        ...

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """The tensors that the piece changes in a part, differentiable in its leaves."""
        ...


class Transform(Piece, Protocol):
    """A piece that leaves the function of the float model as it is."""

    def rewrite_cache(self, keys: Tensor, values: Tensor, part: str) -> tuple[Tensor, Tensor]:
        """Constant keys and values (G, P, D) of a block as its rewritten projections would have made them."""
        ...


class Weights(Piece, Protocol):
    """The piece that rounds the matrices of a model."""

    def finished(self, tensors: Mapping[str, Tensor], part: str) -> dict[str, QuantizedWeight]:
        """Integer codes and scales of every matrix of a part, from the tensors in front of this piece."""
        ...


def leaf(value: Tensor) -> Tensor:
    """A float32 copy that gradients reach."""
    return value.detach().clone().float().requires_grad_()
