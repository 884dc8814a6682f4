"""The GPU twin of ``rounded_row``: one kernel forward, one back, a program for each row.

A program goes along its row twice, BLOCK numbers at a time; the second time the row lies in the cache. Forward it looks
for the weight that the scale comes from, then rounds; back it adds up the gradient of the scale, then hands it on.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from mobilequant.solvers.fake_quantize_kernel import block_of, within
from mobilequant.solvers.rounded_row import SMALLEST

_NUMBERS_PER_WARP, _MOST_WARPS = 256, 8


def round_rows(
    rows: Tensor, growth: Tensor, offset: Tensor | None, qmin: int, qmax: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``rounded_row._round_rows`` on a GPU."""
    rows, rounded = rows.contiguous(), torch.empty_like(rows, memory_format=torch.contiguous_format)
    count, width = rows.shape
    scale, slope = torch.empty_like(growth), torch.empty_like(growth)
    place = torch.empty(count, dtype=torch.int64, device=rows.device)
    _round_rows[(count,)](
        rows,
        growth,
        offset,
        rounded,
        scale,
        place,
        slope,
        width,
        float(qmin),
        float(qmax),
        SMALLEST,
        **_shape(width),
    )
    return rounded, scale, place, slope


def gradients(
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
    """``rounded_row._gradients`` on a GPU."""
    grad, rows = grad.contiguous(), rows.contiguous()
    count, width = rows.shape
    to_rows = torch.empty_like(rows) if of_rows else None
    to_offset = None if offset is None else torch.empty_like(offset)
    to_share = torch.empty_like(scale)
    _gradients[(count,)](
        grad,
        rows,
        offset,
        scale,
        place,
        slope,
        to_rows,
        to_share,
        to_offset,
        width,
        float(qmin),
        float(qmax),
        1 / math.sqrt(width * qmax),
        **_shape(width),
    )
    return to_rows, to_share, to_offset


def _shape(width: int) -> dict[str, int | bool]:
    block = block_of(width)
    return {
        "BLOCK": block,
        "num_warps": min(max(1, block // _NUMBERS_PER_WARP), _MOST_WARPS),
        "enable_fp_fusion": False,  # a product and a sum are rounded each, as in single operations
    }


@triton.jit
def _round_rows(rows, growth, offset, rounded, scale, place, slope, width, qmin, qmax, smallest, BLOCK: tl.constexpr):
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
    covers, factor = best > smallest, tl.load(growth + row)
    step = tl.where(covers, best, smallest) * factor
    tl.store(scale + row, step)
    tl.store(place + row, at)
    tl.store(slope + row, tl.where(covers, tl.where(extreme >= 0.0, 1.0 / qmax, 1.0 / qmin), 0.0) * factor)
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)
        here = column < width
        value = _moved(rows, offset, step, row * width + column, here)
        codes = within(tl.floor(tl.div_rn(value, step) + 0.5), qmin, qmax)
        tl.store(rounded + row * width + column, codes * step, mask=here)


@triton.jit
def _gradients(
    grad,
    rows,
    offset,
    scale,
    place,
    slope,
    to_rows,
    to_share,
    to_offset,
    width,
    qmin,
    qmax,
    lessening,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    step, extreme = tl.load(scale + row), tl.load(place + row)
    total = 0.0
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)
        here = column < width
        arriving = tl.load(grad + row * width + column, mask=here, other=0.0)
        exact = tl.div_rn(_moved(rows, offset, step, row * width + column, here), step)
        codes = tl.floor(exact + 0.5)
        clamped = within(codes, qmin, qmax)
        total += tl.sum(arriving * tl.where(codes == clamped, clamped - exact, clamped))
    tl.store(to_share + row, total * step * lessening)
    to_extreme = total * tl.load(slope + row)
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)
        here = column < width
        spot = row * width + column
        arriving = tl.load(grad + spot, mask=here, other=0.0)
        codes = tl.floor(tl.div_rn(_moved(rows, offset, step, spot, here), step) + 0.5)
        passed = tl.where(codes == within(codes, qmin, qmax), arriving, 0.0)
        if to_rows is not None:
            tl.store(to_rows + spot, passed + tl.where(column == extreme, to_extreme, 0.0), mask=here)
        if offset is not None:
            free = tl.abs(tl.load(offset + spot, mask=here, other=0.0)) <= 0.5
            tl.store(to_offset + spot, tl.where(free, passed * step, 0.0), mask=here)


@triton.jit
def _moved(rows, offset, step, spot, here):
    value = tl.load(rows + spot, mask=here, other=0.0)
    if offset is not None:
        shift = tl.load(offset + spot, mask=here, other=0.0)
        value += step * tl.where(shift < -0.5, -0.5, tl.where(shift > 0.5, 0.5, shift))
    return value
