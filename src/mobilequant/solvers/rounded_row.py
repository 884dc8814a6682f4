"""Rows of weights, each rounded in a share of the range that covers it: one operation forward, and one back.

    scale = covering · exp(share),     row → clamp(⌊(row + scale · offset) / scale + ½⌋) · scale

``covering`` is the smallest scale that clips nothing of a row. What it is made of, the largest weight of the row, gets
its part of the gradient of the scale; so a fold that makes a row smaller is told that its steps become finer. The share
gets the rest, lessened as in LSQ (arXiv 1902.08153, §2.2), and an offset that of its weight, in steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mobilequant.numerics.qtype import QType
from mobilequant.solvers.straight_through import fused

LARGEST_OFFSET = 0.5  # steps: it moves a weight to its other neighbour and no further
SMALLEST = torch.finfo(torch.float32).tiny * 256


def round_rows(rows: Tensor, share: Tensor, offset: Tensor | None, qtype: QType) -> Tensor:
    """Rows (R, W) float32 on their grids; share (R,), offset (R, W) or None."""
    return _rounded(rows, share, offset, qtype.qmin, qtype.qmax)


def covering(rows: Tensor, qtype: QType) -> Tensor:
    """The smallest scale (R,) that clips nothing in rows (R, W)."""
    return _cover(rows, qtype.qmin, qtype.qmax)[0]


def moved(rows: Tensor, offset: Tensor | None, scale: Tensor) -> Tensor:
    """The rows (R, W) with their offsets; scale (R, 1)."""
    return rows if offset is None else rows + scale * offset.clamp(-LARGEST_OFFSET, LARGEST_OFFSET)


class _RoundRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, share: Tensor, offset: Tensor | None, qmin: int, qmax: int) -> Tensor:
        cover = fused().cover if rows.is_cuda else _cover
        growth = share.exp()
        reach, place, slope = cover(rows, qmin, qmax)
        scale = (reach * growth)[:, None]
        ctx.save_for_backward(rows, offset, scale, place, slope * growth)
        ctx.limits = (qmin, qmax)
        round_trip = fused().round_trip_moved if rows.is_cuda else _round_trip
        return round_trip(rows, offset, scale, qmin, qmax)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        rows, offset, scale, place, slope = ctx.saved_tensors
        gradients = fused().gradients_moved if rows.is_cuda else _gradients
        to_rows, to_scale, to_offset = gradients(grad_outputs[0].contiguous(), rows, offset, scale, *ctx.limits)
        to_share = to_scale * scale[:, 0] / math.sqrt(rows.shape[1] * ctx.limits[1])
        if ctx.needs_input_grad[0]:
            to_rows.scatter_add_(1, place, (to_scale * slope)[:, None])
        return to_rows, to_share, to_offset, None, None


_rounded: Callable[..., Tensor] = _RoundRows.apply


def _cover(rows: Tensor, qmin: int, qmax: int) -> tuple[Tensor, Tensor, Tensor]:
    """The covering scale (R,) of rows, the place (R, 1) of the weight that it comes from, and its slope (R,) there."""
    (high, highest), (low, lowest) = rows.max(dim=1), rows.min(dim=1)
    above, below = high / qmax, low / qmin
    is_high = above >= below
    place = torch.where(is_high, highest, lowest)[:, None]
    reach = torch.maximum(above, below)
    slope = torch.where(is_high, 1 / qmax, 1 / qmin) * (reach > SMALLEST)
    return reach.clamp_min(SMALLEST), place, slope


def _round_trip(rows: Tensor, offset: Tensor | None, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    return (moved(rows, offset, scale) / scale).add_(0.5).floor_().clamp_(qmin, qmax).mul_(scale)


def _gradients(
    grad: Tensor, rows: Tensor, offset: Tensor | None, scale: Tensor, qmin: int, qmax: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of rows (R, W), of their scale (R,), and of the offsets."""
    exact = moved(rows, offset, scale) / scale
    codes = (exact + 0.5).floor_()
    clamped = codes.clamp(qmin, qmax)
    inside = codes.eq_(clamped).bool()
    to_rows = torch.where(inside, grad, 0.0)
    to_scale = torch.linalg.vecdot(grad, clamped.sub_(exact.mul_(inside)))
    if offset is None:
        return to_rows, to_scale, None
    return to_rows, to_scale, to_rows * scale * (offset.abs() <= LARGEST_OFFSET)
