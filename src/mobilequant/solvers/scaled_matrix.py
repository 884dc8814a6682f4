"""A matrix times one number per row and one per column: one operation forward, and one back.

    result = matrix · rows · columns

Learned scale pairs fold all weights of a model so in each step, and need the gradients of the factors alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mobilequant.solvers.straight_through import kernels


def scaled_matrix(matrix: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """matrix (O, I) with its rows times ``rows`` (O,) and its columns times ``columns`` (I,); at least one is given."""
    return _scaled(matrix, rows, columns)


class _ScaledMatrix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
        ctx.save_for_backward(matrix, rows, columns)
        product, _ = _where_it_lies(matrix)
        return product(matrix, rows, columns)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        matrix, rows, columns = ctx.saved_tensors
        product, sums = _where_it_lies(matrix)
        to_matrix = product(grad, rows, columns) if ctx.needs_input_grad[0] else None
        return (to_matrix, *sums(grad, matrix, rows, columns))


_scaled: Callable[..., Tensor] = _ScaledMatrix.apply


def _where_it_lies(matrix: Tensor) -> tuple[Callable[..., Tensor], Callable[..., tuple[Tensor | None, Tensor | None]]]:
    """What computes the product and the sums on the device of the matrix."""
    if not matrix.is_cuda:
        return _product, _sums
    twin = kernels("scaled_matrix_kernel")
    return twin.product, twin.sums


def _product(matrix: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    scaled = matrix if rows is None else matrix * rows[:, None]
    return scaled if columns is None else scaled * columns


def _sums(
    grad: Tensor, matrix: Tensor, rows: Tensor | None, columns: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the factors of rows and columns."""
    both = grad * matrix
    to_rows = None if rows is None else both.sum(1) if columns is None else both @ columns
    to_columns = None if columns is None else both.sum(0) if rows is None else rows @ both
    return to_rows, to_columns
