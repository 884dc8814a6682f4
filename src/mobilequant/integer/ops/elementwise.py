"""Sum and product of two tensors of different scales.

The sum is three TOSA RESCALEs: both operands go to a common fine step in 32 bits, are added, and the sum goes to the
output. The common step is max(scale_a, scale_b) · 2^−14, so that 16-bit operands stay below 2^30.
"""

from __future__ import annotations

from torch import Tensor

from mobilequant.integer.ops.requantize import Output, centered, requantize
from mobilequant.numerics.fixed_point import rescale

ADD_HEADROOM_BITS = 14


def integer_add(
    a: Tensor, b: Tensor, *, zero_points: tuple[int, int], factors: tuple[tuple[int, int], ...], output: Output
) -> Tensor:
    """a + b; ``factors`` are the (mantissa, shift) of a, of b and of the sum."""
    (mantissa_a, shift_a), (mantissa_b, shift_b), (mantissa, shift) = factors
    total = rescale(centered(a, zero_points[0]), mantissa_a, shift_a) + rescale(
        centered(b, zero_points[1]), mantissa_b, shift_b
    )
    return requantize(total, mantissa, shift, output)


def integer_multiply(
    a: Tensor, b: Tensor, *, zero_points: tuple[int, int], mantissa: int, shift: int, output: Output
) -> Tensor:
    """a · b with one rescale."""
    return requantize(centered(a, zero_points[0]) * centered(b, zero_points[1]), mantissa, shift, output)
