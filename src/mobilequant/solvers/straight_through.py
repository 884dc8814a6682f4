"""Rounding that gradients can pass: what quantization-aware training computes with.

    codes = clamp(⌊value / scale + ½⌋ + zero_point, qmin, qmax),      result = (codes − zero_point) · scale

The rounding counts as the identity (straight-through estimator), the clamp as what it is. So a value that is clipped
has no gradient, and scale and zero point get those of LSQ (arXiv 1902.08153, eq. 3) and LSQ+ (arXiv 2004.09576, eq. 4):

    ∂result/∂scale       inside: ⌊value/scale + ½⌋ − value/scale      outside: qmin or qmax − zero_point
    ∂result/∂zero_point  inside: 0                                    outside: −scale

On a GPU each direction is one fused kernel; written out in single operations, launching them would take most of a step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def fake_quantize(value: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int) -> Tensor:
    """The rounded value, same shape; scale and zero point are () for a tensor, or (R, 1) for a value (R, W).

    The zero point may be a fraction, as MobileQuant trains it (arXiv 2408.13933, §4.2).
    """
    result: Tensor = _FakeQuantize.apply(value, scale, zero_point, qmin, qmax)  # type: ignore[no-untyped-call]
    return result


def round_through(value: Tensor) -> Tensor:
    """Nearest whole numbers, with the gradient of the identity."""
    return value + (value.round() - value).detach()


def with_gradient_scale(parameter: Tensor, factor: float) -> Tensor:
    """The parameter itself, whose gradient is multiplied by ``factor`` (LSQ, arXiv 1902.08153, §2.2)."""
    scaled = parameter * factor
    return (parameter - scaled).detach() + scaled


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int) -> Tensor:
        ctx.save_for_backward(value, scale, zero_point)
        ctx.limits = (qmin, qmax)
        plain, scale, zero_point = _canonical(value, scale), scale.detach(), zero_point.detach()
        return _fused(_round_trip, value.is_cuda)(plain, scale, zero_point, qmin, qmax).view(value.shape)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        value, scale, zero_point = (each.detach() for each in ctx.saved_tensors)
        plain, grad = _canonical(value, scale), _canonical(grad_outputs[0], scale)
        backward = _fused(_gradients, value.is_cuda)
        to_value, to_scale, to_zero_point = backward(grad, plain, scale, zero_point, *ctx.limits)
        wanted = ctx.needs_input_grad
        return (
            to_value.view(value.shape) if wanted[0] else None,
            to_scale if wanted[1] else None,
            to_zero_point if wanted[2] else None,
            None,
            None,
        )


def _canonical(value: Tensor, scale: Tensor) -> Tensor:
    """One layout for all values, because every other layout is compiled anew: a vector, or rows for a scale per row."""
    value = value.detach().float()
    return value.reshape(-1) if scale.dim() == 0 else value.reshape(len(scale), -1)


@functools.cache
def _fused(function: Callable[..., Any], on_gpu: bool) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True) if on_gpu else function


def _round_trip(value: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int) -> Tensor:
    codes = torch.floor(value / scale + 0.5) + zero_point
    return (codes.clamp(qmin, qmax) - zero_point) * scale


def _gradients(
    grad: Tensor, value: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, scale and zero point, each in its own shape."""
    exact = value / scale
    codes = torch.floor(exact + 0.5) + zero_point
    clamped = codes.clamp(qmin, qmax)
    inside = codes == clamped
    per_scale = grad * torch.where(inside, codes - zero_point - exact, clamped - zero_point)
    per_zero_point = torch.where(inside, 0.0, -grad) * scale
    if scale.dim() == 0:
        return grad * inside, per_scale.sum(), per_zero_point.sum()
    return grad * inside, per_scale.sum(1, keepdim=True), per_zero_point.sum(1, keepdim=True)
