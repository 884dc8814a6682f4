"""Scales of symmetric weight rows: cover everything, or cut the tail where that lowers the error.

A row here is whatever shares one scale: an output channel, or one group of input channels of it.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mobilequant.numerics.qtype import QType
from mobilequant.pipeline.method import FrozenConfig

_CHUNK_ELEMENTS = 1 << 22  # bounds the memory of the search
# The share of the full range down to which the search goes, and its steps: cutting pays where codes are few.
_SEARCH = {4: (0.3, 48), 8: (0.7, 16)}


class WeightRange(FrozenConfig):
    """How far a row of weights reaches before it is clipped."""

    weight_range: Literal["absmax", "lp"] = Field(
        default="lp",
        description="absmax: never clip. lp: the clip that minimizes the sum of |error|^power over the row.",
    )
    power: float = Field(
        default=2.0, ge=1.0, le=4.0, description="Exponent of the error under weight_range lp (2 = MSE)."
    )

    def row_scale(self, rows: Tensor, qtype: QType) -> Tensor:
        """Scale (R,) of rows (R, W)."""
        if self.weight_range == "absmax":
            return covering_scale(rows, qtype)
        return search_scale(rows, qtype, self.power)


def covering_scale(rows: Tensor, qtype: QType) -> Tensor:
    """The smallest scale (R,) that clips nothing in rows (R, W).

    Codes reach further down than up in int4, so a row whose largest weight is negative gets the finer step.
    A row of zeros gets the median of the other scales, fine enough for its bias.
    """
    low, high = rows.amin(dim=1), rows.amax(dim=1)
    scale = torch.maximum(high / qtype.qmax, low / qtype.qmin)
    alive = scale > torch.finfo(scale.dtype).tiny * 256
    spare = scale[alive].median() if bool(alive.any()) else scale.new_ones(())
    return torch.where(alive, scale, spare)


def search_scale(rows: Tensor, qtype: QType, p: float = 2.0) -> Tensor:
    """The scale (R,) among shares of the covering one with the least sum |row − quantized row|^p; ties clip less."""
    per_chunk = max(1, _CHUNK_ELEMENTS // rows.shape[1])
    return torch.cat([_search(chunk, full, qtype, p) for chunk, full in _chunks(rows, qtype, per_chunk)])


def _chunks(rows: Tensor, qtype: QType, size: int) -> list[tuple[Tensor, Tensor]]:
    full = covering_scale(rows, qtype)
    return list(zip(rows.split(size), full.split(size), strict=True))


def _search(rows: Tensor, full: Tensor, qtype: QType, p: float) -> Tensor:
    lowest, steps = _SEARCH[qtype.num_bits]
    best, least = full, torch.full_like(full, math.inf)
    for share in torch.linspace(1.0, lowest, steps).tolist():
        scale = full * share
        error = _row_error(rows, scale[:, None], qtype, p)
        better = error < least
        best, least = torch.where(better, scale, best), torch.where(better, error, least)
    return best


def _row_error(rows: Tensor, scale: Tensor, qtype: QType, p: float) -> Tensor:
    """Sum of |error|^p over each row, (R,)."""
    rounded = (rows / scale).add_(0.5).floor_().clamp_(qtype.qmin, qtype.qmax).mul_(scale)
    error = rounded.sub_(rows)
    return error.square_().sum(dim=1) if p == 2.0 else error.abs_().pow_(p).sum(dim=1)
