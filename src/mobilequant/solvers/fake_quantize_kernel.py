"""The GPU twins of ``straight_through`` and ``rounded_row``: each direction of a fake quantizer in one kernel.

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

from mobilequant.solvers.rounded_row import SMALLEST

_LARGEST_BLOCK = 4096


def round_trip(value: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int) -> Tensor:
    """``straight_through._round_trip`` of a value (R, W) on a GPU."""
    value, rounded = value.contiguous(), torch.empty_like(value, memory_format=torch.contiguous_format)
    rows, width = value.shape
    block = _block(width)
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
    block = _block(width)
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


def cover(rows: Tensor, qmin: int, qmax: int) -> tuple[Tensor, Tensor, Tensor]:
    """``rounded_row._cover`` on a GPU."""
    rows = rows.contiguous()
    count, width = rows.shape
    reach, slope = (torch.empty(count, dtype=torch.float32, device=rows.device) for _ in range(2))
    place = torch.empty((count, 1), dtype=torch.int64, device=rows.device)
    _cover[(count,)](rows, reach, place, slope, width, float(qmin), float(qmax), SMALLEST, BLOCK=_block(width))
    return reach, place, slope


def round_trip_moved(rows: Tensor, offset: Tensor | None, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    """``rounded_row._round_trip`` on a GPU."""
    rows, rounded = rows.contiguous(), torch.empty_like(rows, memory_format=torch.contiguous_format)
    count, width = rows.shape
    block = _block(width)
    _round_trip_moved[(count, triton.cdiv(width, block))](
        rows, offset, scale, rounded, width, float(qmin), float(qmax), BLOCK=block, enable_fp_fusion=False
    )
    return rounded


def gradients_moved(
    grad: Tensor, rows: Tensor, offset: Tensor | None, scale: Tensor, qmin: int, qmax: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """``rounded_row._gradients`` on a GPU."""
    rows = rows.contiguous()
    count, width = rows.shape
    block = _block(width)
    grid = (count, triton.cdiv(width, block))
    to_rows, to_offset = torch.empty_like(rows), None if offset is None else torch.empty_like(offset)
    sums = torch.empty(grid, dtype=torch.float32, device=rows.device)
    _gradients_moved[grid](
        grad,
        rows,
        offset,
        scale,
        to_rows,
        to_offset,
        sums,
        width,
        float(qmin),
        float(qmax),
        BLOCK=block,
        enable_fp_fusion=False,
    )
    return to_rows, sums.sum(-1), to_offset


def _block(width: int) -> int:
    return min(triton.next_power_of_2(width), _LARGEST_BLOCK)


@triton.jit
def _round_trip(value, scale, zero_point, rounded, width, qmin, qmax, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = column < width
    step, zero = tl.load(scale + row), tl.load(zero_point + row)
    exact = tl.div_rn(tl.load(value + row * width + column, mask=here, other=0.0), step)
    codes = tl.floor(exact + 0.5) + zero
    clamped = _clamped(codes, qmin, qmax)
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
    clamped = _clamped(codes, qmin, qmax)
    inside = codes == clamped
    tl.store(to_value + row * width + column, tl.where(inside, arriving, 0.0), mask=here)
    program = row * tl.num_programs(1) + tl.program_id(1)
    per_scale = tl.where(inside, codes - zero - exact, clamped - zero)
    tl.store(to_scale + program, tl.sum(arriving * per_scale) * factor)
    tl.store(to_zero_point + program, tl.sum(tl.where(inside, 0.0, -arriving)) * step * factor)


@triton.jit
def _cover(rows, reach, place, slope, width, qmin, qmax, smallest, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    best, at, extreme = float("-inf"), 0, 0.0
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)
        here = column < width
        value = tl.load(rows + row * width + column, mask=here, other=0.0)
        above, below = tl.div_rn(value, qmax), tl.div_rn(value, qmin)
        ratio = tl.where(here, tl.where(above >= below, above, below), float("-inf"))
        largest, first = tl.max(ratio, axis=0), start + tl.argmax(ratio, axis=0)
        better = largest > best
        extreme = tl.where(better, tl.sum(tl.where(column == first, value, 0.0)), extreme)
        at = tl.where(better, first, at)
        best = tl.where(better, largest, best)
    covers = best > smallest
    tl.store(place + row, at)
    tl.store(slope + row, tl.where(covers, tl.where(extreme >= 0.0, 1.0 / qmax, 1.0 / qmin), 0.0))
    tl.store(reach + row, tl.where(covers, best, smallest))


@triton.jit
def _round_trip_moved(rows, offset, scale, rounded, width, qmin, qmax, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = column < width
    step = tl.load(scale + row)
    value = _moved(rows, offset, step, row * width + column, here)
    codes = tl.floor(tl.div_rn(value, step) + 0.5)
    clamped = _clamped(codes, qmin, qmax)
    tl.store(rounded + row * width + column, clamped * step, mask=here)


@triton.jit
def _gradients_moved(grad, rows, offset, scale, to_rows, to_offset, to_scale, width, qmin, qmax, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = column < width
    place = row * width + column
    step = tl.load(scale + row)
    arriving = tl.load(grad + place, mask=here, other=0.0)
    exact = tl.div_rn(_moved(rows, offset, step, place, here), step)
    codes = tl.floor(exact + 0.5)
    clamped = _clamped(codes, qmin, qmax)
    inside = codes == clamped
    passed = tl.where(inside, arriving, 0.0)
    tl.store(to_rows + place, passed, mask=here)
    if offset is not None:
        free = tl.abs(tl.load(offset + place, mask=here, other=0.0)) <= 0.5
        tl.store(to_offset + place, tl.where(free, passed * step, 0.0), mask=here)
    per_scale = tl.where(inside, clamped - exact, clamped)
    tl.store(to_scale + row * tl.num_programs(1) + tl.program_id(1), tl.sum(arriving * per_scale))


@triton.jit
def _moved(rows, offset, step, place, here):
    value = tl.load(rows + place, mask=here, other=0.0)
    if offset is not None:
        shift = tl.load(offset + place, mask=here, other=0.0)
        value += step * tl.where(shift < -0.5, -0.5, tl.where(shift > 0.5, 0.5, shift))
    return value


@triton.jit
def _clamped(codes, qmin, qmax):
    return tl.where(codes < qmin, qmin, tl.where(codes > qmax, qmax, codes))  # tl.minimum would lose NaN
