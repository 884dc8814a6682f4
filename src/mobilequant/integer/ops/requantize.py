"""From an accumulator to the codes of the next tensor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mobilequant.numerics.fixed_point import rescale


@dataclass(frozen=True)
class Output:
    """Codes of the tensor that an op writes: zero point, saturation limits and storage."""

    zero_point: int
    qmin: int
    qmax: int
    dtype: torch.dtype


def requantize(accumulator: Tensor, mantissa: Tensor | int, shift: Tensor | int, output: Output) -> Tensor:
    """clamp(zero_point + rescale(accumulator)): int64 holding int32 values → codes."""
    codes = rescale(accumulator, mantissa, shift) + output.zero_point
    return codes.clamp_(output.qmin, output.qmax).to(output.dtype)


def centered(codes: Tensor, zero_point: int) -> Tensor:
    """codes − zero_point as int64."""
    return codes.to(torch.int64) - zero_point
