"""Rounding that gradients can pass: what quantization-aware training computes with.

    codes = clamp(⌊value / scale + ½⌋ + zero_point, qmin, qmax),      result = (codes − zero_point) · scale

The rounding counts as the identity (straight-through estimator), the clamp as what it is. So a value that is clipped
has no gradient, and scale and zero point get those of LSQ (arXiv 1902.08153, eq. 3) and LSQ+ (arXiv 2004.09576, eq. 4):

    ∂result/∂scale       inside: ⌊value/scale + ½⌋ − value/scale      outside: qmin or qmax − zero_point
    ∂result/∂zero_point  inside: 0                                    outside: −scale

On a GPU each direction is one fused kernel (``fake_quantize_kernel``): in single operations, launching them would take
most of a step. Where a whole block is compiled, ``traced_fake_quantize`` does this.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


def fake_quantize(
    value: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, *, gradient_factor: float = 1.0
) -> Tensor:
    """The rounded value, same shape and dtype; scale and zero point, float32, are () for a tensor, or (R, 1) for a
    value (R, W). It is computed in float32.

    The zero point may be a fraction, as MobileQuant trains it (arXiv 2408.13933, §4.2). The gradients of scale and zero
    point are multiplied by ``gradient_factor`` (LSQ, arXiv 1902.08153, §2.2).
    """
    return _rounded(value, scale, zero_point, qmin, qmax, gradient_factor)


def round_through(value: Tensor) -> Tensor:
    """Nearest whole numbers, with the gradient of the identity."""
    return value + (value.round() - value).detach()


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, gradient_factor: float
    ) -> Tensor:
        ctx.save_for_backward(value, scale, zero_point)
        ctx.constants = (qmin, qmax, gradient_factor)
        round_trip = kernels("fake_quantize_kernel").round_trip if value.is_cuda else _round_trip
        return round_trip(_rows(value, scale), scale, zero_point, qmin, qmax).view(value.shape).to(value.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        value, scale, zero_point = saved
        gradients = kernels("fake_quantize_kernel").gradients if value.is_cuda else _gradients
        found = gradients(_rows(grad_outputs[0], scale), _rows(value, scale), scale, zero_point, *ctx.constants)
        shaped = (each.view(like.shape) for each, like in zip(found, saved, strict=True))
        kept = (each if wanted else None for each, wanted in zip(shaped, ctx.needs_input_grad, strict=False))
        return (*kept, None, None, None)


_rounded: Callable[..., Tensor] = _FakeQuantize.apply


def kernels(name: str) -> ModuleType:
    """A module of GPU kernels, whose language is there only where there is a GPU."""
    return importlib.import_module(f"mobilequant.solvers.{name}")


def _rows(value: Tensor, scale: Tensor) -> Tensor:
    """A value as rows (R, W), one for each scale."""
    return value.float().reshape(scale.numel(), -1)


def _round_trip(value: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int) -> Tensor:
    codes = torch.div(value, scale).add_(0.5).floor_().add_(zero_point)  # in place: on a CPU memory is what counts
    return codes.clamp_(qmin, qmax).sub_(zero_point).mul_(scale)


def _gradients(
    grad: Tensor, value: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, factor: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value (R, W), and those of scale and zero point, times ``factor``, as (R,)."""
    exact = value / scale
    codes = (exact + 0.5).floor_().add_(zero_point)
    clamped = codes.clamp(qmin, qmax)
    inside = codes.eq_(clamped).bool()
    to_value = torch.where(inside, grad, 0.0)
    per_scale = clamped.sub_(zero_point).sub_(exact.mul_(inside))
    outside = grad.sum(1) - to_value.sum(1)
    return to_value, factor * torch.linalg.vecdot(grad, per_scale), -factor * outside * scale.flatten()
