"""The GPU twin of ``straight_through``: each direction of a fake quantizer in one kernel.

value (R, W), one scale and zero point per row        grid (R, ⌈W / BLOCK⌉): a program has BLOCK numbers of a row

row 0  [ BLOCK ][ BLOCK ][ rest ]     forward reads 4 bytes and writes 4 per number, backward reads 8 and writes 4;
row 1  [ BLOCK ][ BLOCK ][ rest ]     its two sums per row are left as one number per program and added by torch,
   …                                  in a fixed order, so that a step gives the same bits each time
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_LARGEST_BLOCK = 4096


def round_trip(value: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int) -> Tensor:
    """``straight_through._round_trip`` of a value (R, W) on a GPU."""
    value, rounded = value.contiguous(), torch.empty_like(value, memory_format=torch.contiguous_format)
    rows, width = value.shape
    block = block_of(width)
    grid = (rows, triton.cdiv(width, block))
    _round_trip[grid](
        value, scale.contiguous(), zero_point.contiguous(), rounded, width, float(qmin), float(qmax), BLOCK=block
    )
    return rounded


def gradients(
    grad: Tensor, value: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, factor: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``straight_through._gradients`` on a GPU."""
    grad, value = grad.contiguous(), value.contiguous()
    rows, width = value.shape
    block = block_of(width)
    grid = (rows, triton.cdiv(width, block))
    to_value = torch.empty_like(value)
    sums = torch.empty((2, *grid), dtype=torch.float32, device=value.device)
    _gradients[grid](
        grad,
        value,
        scale.contiguous(),
        zero_point.contiguous(),
        to_value,
        sums[0],
        sums[1],
        width,
        float(qmin),
        float(qmax),
        factor,
        BLOCK=block,
    )
    to_scale, to_zero_point = sums.sum(-1)
    return to_value, to_scale, to_zero_point


def block_of(width: int) -> int:
    """How many numbers of a row a program has at a time."""
    return min(triton.next_power_of_2(width), _LARGEST_BLOCK)


@triton.jit
def _round_trip(value, scale, zero_point, rounded, width, qmin, qmax, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = column < width
    step, zero = tl.load(scale + row), tl.load(zero_point + row)
    exact = tl.div_rn(tl.load(value + row * width + column, mask=here, other=0.0), step)
    codes = tl.floor(exact + 0.5) + zero
    clamped = within(codes, qmin, qmax)
    tl.store(rounded + row * width + column, (clamped - zero) * step, mask=here)


@triton.jit
def _gradients(
    grad,
    value,
    scale,
    zero_point,
    to_value,
    to_scale,
    to_zero_point,
    width,
    qmin,
    qmax,
    factor,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = column < width
    step, zero = tl.load(scale + row), tl.load(zero_point + row)
    arriving = tl.load(grad + row * width + column, mask=here, other=0.0)
    exact = tl.div_rn(tl.load(value + row * width + column, mask=here, other=0.0), step)
    codes = tl.floor(exact + 0.5) + zero
    clamped = within(codes, qmin, qmax)
    inside = codes == clamped
    tl.store(to_value + row * width + column, tl.where(inside, arriving, 0.0), mask=here)
    program = row * tl.num_programs(1) + tl.program_id(1)
    per_scale = tl.where(inside, codes - zero - exact, clamped - zero)
    tl.store(to_scale + program, tl.sum(arriving * per_scale) * factor)
    tl.store(to_zero_point + program, tl.sum(tl.where(inside, 0.0, -arriving)) * step * factor)


@triton.jit
def within(codes, qmin, qmax):
    """Codes inside of their limits; ``tl.minimum`` would lose NaN."""
    return tl.where(codes < qmin, qmin, tl.where(codes > qmax, qmax, codes))
