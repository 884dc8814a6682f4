"""The GPU twin of ``scaled_matrix``: one kernel forward, one back, a program for each tile of a matrix.

         columns             sums of a tile:  ┌──────┐
        ┌──────┬──────┐                       │ tile │ ─▶ one per row
    rows│ tile │      │                       └──────┘
        ├──────┼──────┤                          ▼
        │      │      │                     one per column
        └──────┴──────┘

The sums of tiles are added by torch, in a fixed order, so that a step gives the same bits each time.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_HIGH, _WIDE = 16, 256  # of a tile


def product(matrix: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """``scaled_matrix._product`` on a GPU."""
    matrix, scaled = matrix.contiguous(), torch.empty_like(matrix, memory_format=torch.contiguous_format)
    height, width = matrix.shape
    _product[_tiles(matrix)](
        matrix, _plain(rows), _plain(columns), scaled, height, width, HIGH=_HIGH, WIDE=_WIDE, enable_fp_fusion=False
    )
    return scaled


def sums(
    grad: Tensor, matrix: Tensor, rows: Tensor | None, columns: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """``scaled_matrix._sums`` on a GPU."""
    grad, matrix = grad.contiguous(), matrix.contiguous()
    height, width = matrix.shape
    down, across = _tiles(matrix)
    to_rows = None if rows is None else matrix.new_empty(across, height)
    to_columns = None if columns is None else matrix.new_empty(down, width)
    _sums[(down, across)](
        grad, matrix, _plain(rows), _plain(columns), to_rows, to_columns, height, width, HIGH=_HIGH, WIDE=_WIDE
    )
    return (None if to_rows is None else to_rows.sum(0), None if to_columns is None else to_columns.sum(0))


def _tiles(matrix: Tensor) -> tuple[int, int]:
    height, width = matrix.shape
    return triton.cdiv(height, _HIGH), triton.cdiv(width, _WIDE)


def _plain(factors: Tensor | None) -> Tensor | None:
    return None if factors is None else factors.contiguous()


@triton.jit
def _product(matrix, rows, columns, scaled, height, width, HIGH: tl.constexpr, WIDE: tl.constexpr):
    row = tl.program_id(0) * HIGH + tl.arange(0, HIGH)
    column = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    here = (row < height)[:, None] & (column < width)[None, :]
    spot = row[:, None].to(tl.int64) * width + column[None, :]
    value = tl.load(matrix + spot, mask=here, other=0.0)
    if rows is not None:
        value *= tl.load(rows + row, mask=row < height, other=0.0)[:, None]
    if columns is not None:
        value *= tl.load(columns + column, mask=column < width, other=0.0)[None, :]
    tl.store(scaled + spot, value, mask=here)


@triton.jit
def _sums(grad, matrix, rows, columns, to_rows, to_columns, height, width, HIGH: tl.constexpr, WIDE: tl.constexpr):
    row = tl.program_id(0) * HIGH + tl.arange(0, HIGH)
    column = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    here = (row < height)[:, None] & (column < width)[None, :]
    spot = row[:, None].to(tl.int64) * width + column[None, :]
    both = tl.load(grad + spot, mask=here, other=0.0) * tl.load(matrix + spot, mask=here, other=0.0)
    if rows is not None:
        of_rows = both
        if columns is not None:
            of_rows = both * tl.load(columns + column, mask=column < width, other=0.0)[None, :]
        tl.store(to_rows + tl.program_id(1) * height + row, tl.sum(of_rows, axis=1), mask=row < height)
    if columns is not None:
        of_columns = both
        if rows is not None:
            of_columns = both * tl.load(rows + row, mask=row < height, other=0.0)[:, None]
        tl.store(to_columns + tl.program_id(0) * width + column, tl.sum(of_columns, axis=0), mask=column < width)
