"""From an accumulator to the codes of the next tensor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Output:
    """Codes of the tensor that an op writes: zero point, saturation limits and storage."""

    zero_point: int
    qmin: int
    qmax: int
    dtype: torch.dtype


def requantize(accumulator: Tensor, mantissa: Tensor | int, shift: Tensor | int, output: Output) -> Tensor:
    """clamp(zero_point + rescale(accumulator)): int64 holding int32 values → codes.

    The accumulator is used up: this is ``fixed_point.rescale`` done in place, which halves the time of the interpreter.
    """
    codes = accumulator.mul_(mantissa).add_(1 << (shift - 1)).bitwise_right_shift_(shift).add_(output.zero_point)
    return codes.clamp_(output.qmin, output.qmax).to(output.dtype)


def centered(codes: Tensor, zero_point: int) -> Tensor:
    """codes − zero_point as int64."""
    return codes.to(torch.int64) - zero_point
