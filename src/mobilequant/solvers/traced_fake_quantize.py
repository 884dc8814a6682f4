"""The twin of ``straight_through`` for code that is compiled: single operations, which the compiler fuses.

A kernel of our own is a wall for the compiler. These operations it computes together with what stands in front of a
fake quantizer and behind it, so that a value is not written and read again for being rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def traced_fake_quantize(value: Tensor, grid: Tensor, qmin: int, qmax: int, *, gradient_factor: float = 1.0) -> Tensor:
    """The rounded value, same shape and dtype; the grid (2,), float32, is scale and zero point."""
    return _rounded(value.float(), grid, qmin, qmax, gradient_factor).to(value.dtype)


class _Traced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, grid: Tensor, qmin: int, qmax: int, gradient_factor: float) -> Tensor:
        ctx.save_for_backward(value, grid)
        ctx.constants = (qmin, qmax, gradient_factor)
        scale, zero_point = grid.unbind()
        codes = (torch.div(value, scale) + 0.5).floor() + zero_point
        return (codes.clamp(qmin, qmax) - zero_point) * scale

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        value, grid = ctx.saved_tensors
        qmin, qmax, factor = ctx.constants
        scale, zero_point = grid.unbind()
        exact = torch.div(value, scale)
        codes = (exact + 0.5).floor() + zero_point
        clamped = codes.clamp(qmin, qmax)
        inside = codes == clamped
        of_scale = factor * grad * torch.where(inside, codes - zero_point - exact, clamped - zero_point)
        of_zero_point = torch.where(inside, 0.0, -factor * scale * grad)
        # Rows first, as norms and softmax go, so that all of it fits into one kernel; then both sums in another one.
        of_rows = torch.stack((of_scale.sum(-1), of_zero_point.sum(-1)))
        return torch.where(inside, grad, 0.0), of_rows.reshape(2, -1).sum(1), None, None, None


_rounded: Callable[..., Tensor] = _Traced.apply
