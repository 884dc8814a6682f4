"""Learned ranges as MobileQuant publishes them (arXiv 2408.13933, §4.2): scale α and offset β themselves as leaves.

β is never rounded in training, nothing relates a learning rate to the size of a range, and activations of 16 bits are
rounded and learned like all others. Only that a scale stays positive is ours: an absolute step can be larger than it.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST = 1e-3  # of the scale that was measured


class Published:
    """Leaves are the parameters, gradients are what they are."""

    kinds = ("scale", "offset")

    def leaves(self, scale: Tensor, zero_point: Tensor) -> tuple[Tensor, Tensor]:
        """The ranges themselves."""
        return scale, zero_point

    def scale(self, leaves: Tensor, start: Tensor) -> Tensor:
        """α, kept positive."""
        return torch.maximum(leaves, _SMALLEST * start)

    def zero_point(self, leaves: Tensor, start: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """β, a fraction."""
        return leaves

    def gradient_factor(self, size: int, qmax: int) -> float:
        """None."""
        return 1.0


PUBLISHED = Published()
