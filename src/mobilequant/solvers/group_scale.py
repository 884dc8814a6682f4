"""The scales of one weight matrix in the form that integers can run: a real per row, a small integer per group.

    real scale of group g of row o  ≈  scale[o] · multiplier[o, g],      multiplier in 1…255

The group of a row that needs the largest step gets multiplier 255, so that the rounding of the others is as fine as
eight bits allow. Codes must be rounded against these products, not against the scales that were searched.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mobilequant.errors import UsageError
from mobilequant.numerics.qtype import QType
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.solvers.range_search import WeightRange

MAX_MULTIPLIER = 255


@dataclass(frozen=True)
class WeightScale:
    """scale (O,) float32; group_multiplier (O, G) uint8, or None when the whole row shares one scale."""

    scale: Tensor
    group_multiplier: Tensor | None

    def with_codes(self, codes: Tensor, qtype: QType) -> QuantizedWeight:
        """The finished matrix."""
        return QuantizedWeight(codes, self.scale, qtype, self.group_multiplier)

    def elements(self, columns: int) -> Tensor:
        """The scale of every weight: (O, 1) per channel, (O, I) with groups."""
        if self.group_multiplier is None:
            return self.scale[:, None]
        width = columns // self.group_multiplier.shape[1]
        return self.scale[:, None] * self.group_multiplier.repeat_interleave(width, dim=1).to(self.scale.dtype)


def weight_scale(
    name: str, weight: Tensor, qtype: QType, group_size: int | None, weight_range: WeightRange
) -> WeightScale:
    """Scales of the weight (O, I) called ``name``.

    Raises:
        UsageError: the group size does not divide I.
    """
    weight = weight.float()
    if group_size is not None:
        check_group_size(name, weight.shape[1], group_size)
    rows = weight.reshape(-1, group_size or weight.shape[1])
    return integer_groups(weight_range.row_scale(rows, qtype), len(weight), group_size)


def check_group_size(name: str, columns: int, group_size: int) -> None:
    """Groups must tile a row.

    Raises:
        UsageError: they do not; names the matrix and the nearest sizes that do.
    """
    if columns % group_size == 0:
        return
    valid = [size for size in range(1, columns + 1) if columns % size == 0]
    below = max(size for size in valid if size < group_size)
    above = min((size for size in valid if size > group_size), default=below)
    raise UsageError(
        f"{name}.weight has {columns} input channels, which groups of {group_size} do not divide",
        f"Use a group size of {' or '.join(map(str, sorted({below, above})))}, or one scale per output channel.",
    )


def integer_groups(wanted: Tensor, channels: int, group_size: int | None) -> WeightScale:
    """Nearest integer multiples of a common row scale for wanted scales (O · G); as they are without groups."""
    if group_size is None:
        return WeightScale(wanted, None)
    wanted = wanted.view(channels, -1)
    scale = wanted.amax(dim=1) / MAX_MULTIPLIER
    multiplier = torch.round(wanted / scale[:, None]).clamp_(1, MAX_MULTIPLIER)
    return WeightScale(scale, multiplier.to(torch.uint8))
