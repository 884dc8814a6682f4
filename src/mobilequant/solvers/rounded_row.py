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
from mobilequant.solvers.straight_through import kernels

LARGEST_OFFSET = 0.5  # steps: it moves a weight to its other neighbour and no further
SMALLEST = torch.finfo(torch.float32).tiny * 256


def round_rows(
    rows: Tensor, share: Tensor, offset: Tensor | None, qtype: QType, growth: Tensor | None = None
) -> Tensor:
    """Rows (R, W) float32 on their grids; share (R,), offset (R, W) or None; growth: exp(share), where it is known."""
    growth = share.detach().exp() if growth is None else growth
    return _rounded(rows, share, growth, offset, qtype.qmin, qtype.qmax)


def covering(rows: Tensor, qtype: QType) -> Tensor:
    """The smallest scale (R,) that clips nothing in rows (R, W)."""
    return _cover(rows, qtype.qmin, qtype.qmax)[0]


def moved(rows: Tensor, offset: Tensor | None, scale: Tensor) -> Tensor:
    """The rows (R, W) with their offsets; scale (R, 1)."""
    return rows if offset is None else rows + scale * offset.clamp(-LARGEST_OFFSET, LARGEST_OFFSET)


class _RoundRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, share: Tensor, growth: Tensor, offset: Tensor | None, qmin: int, qmax: int
    ) -> Tensor:
        compute = kernels("rounded_row_kernel").round_rows if rows.is_cuda else _round_rows
        rounded, *of_rows = compute(rows, growth, offset, qmin, qmax)
        ctx.save_for_backward(rows, offset, *of_rows)
        ctx.limits = (qmin, qmax)
        return rounded

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        rows, *saved = ctx.saved_tensors
        compute = kernels("rounded_row_kernel").gradients if rows.is_cuda else _gradients
        of_rows = ctx.needs_input_grad[0]
        to_rows, to_share, to_offset = compute(grad_outputs[0], rows, *saved, *ctx.limits, of_rows=of_rows)
        return to_rows, to_share, None, to_offset, None, None


_rounded: Callable[..., Tensor] = _RoundRows.apply


def _round_rows(
    rows: Tensor, growth: Tensor, offset: Tensor | None, qmin: int, qmax: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The rounded rows (R, W); of each row its scale, the place of the weight that this comes from, the slope there."""
    reach, place, slope = _cover(rows, qmin, qmax)
    scale = reach * growth
    return _round_trip(rows, offset, scale[:, None], qmin, qmax), scale, place, slope * growth


def _cover(rows: Tensor, qmin: int, qmax: int) -> tuple[Tensor, Tensor, Tensor]:
    """The covering scale (R,) of rows, the place (R,) of the weight that it comes from, and its slope (R,) there."""
    (high, highest), (low, lowest) = rows.max(dim=1), rows.min(dim=1)
    above, below = high / qmax, low / qmin
    is_high = above >= below
    place = torch.where(is_high, highest, lowest)
    reach = torch.maximum(above, below)
    slope = torch.where(is_high, 1 / qmax, 1 / qmin) * (reach > SMALLEST)
    return reach.clamp_min(SMALLEST), place, slope


def _round_trip(rows: Tensor, offset: Tensor | None, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    return (moved(rows, offset, scale) / scale).add_(0.5).floor_().clamp_(qmin, qmax).mul_(scale)


def _gradients(
    grad: Tensor,
    rows: Tensor,
    offset: Tensor | None,
    scale: Tensor,
    place: Tensor,
    slope: Tensor,
    qmin: int,
    qmax: int,
    *,
    of_rows: bool,
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Gradients of rows (R, W), where they are wanted, of the share (R,) of each row, and of the offsets."""
    step = scale[:, None]
    exact = moved(rows, offset, step) / step
    codes = (exact + 0.5).floor_()
    clamped = codes.clamp(qmin, qmax)
    inside = codes.eq_(clamped).bool()
    to_scale = torch.linalg.vecdot(grad, clamped.sub_(exact.mul_(inside)))
    to_rows = torch.where(inside, grad, 0.0)
    to_offset = None if offset is None else to_rows * step * (offset.abs() <= LARGEST_OFFSET)
    to_share = to_scale * scale / math.sqrt(rows.shape[1] * qmax)
    if not of_rows:
        return None, to_share, to_offset
    return to_rows.scatter_add_(1, place[:, None], (to_scale * slope)[:, None]), to_share, to_offset
