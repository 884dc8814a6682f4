"""RMSNorm and LayerNorm in integers, as one op with an integer inverse square root.

With x the centered input codes of a row of C channels, shifted up by the channel's exponent where there are exponents,
and m = Σx for LayerNorm, m = 0 for RMSNorm:

    c = C·x − m                                   |c| < 2^31 for C·2^exponent ≤ 2^15 and 16-bit codes
    q = max(C·Σx² − m² + epsilon, 1)              C² times the variance, in units of the input step
    n = c / √q       in steps of 2^−16            the standardized row, |n| ≤ √C
    t = (n·gain + 2^14) >> 15, + bias             gain int16, bias int32
    y = zero_point + rescale(t)

√q and its inverse are exact floors, so that every implementation agrees:

    k    = the largest k with q·4^k < 2^62        root = ⌊√(q·4^k)⌋ in [2^30, 2^31)
    inv  = ⌊2^61 / root⌋                          n = (c·inv + half) >> (45 − k)
"""

from __future__ import annotations

import torch
from torch import Tensor

from mobilequant.integer.ops.requantize import Output, centered, requantize

STANDARDIZED_BITS = 16  # fraction bits of n
GAIN_SHIFT = 15


def integer_norm(
    codes: Tensor,
    *,
    zero_point: int,
    epsilon: int,
    subtract_mean: bool,
    gain: Tensor,
    bias: Tensor | None,
    exponent: Tensor | None = None,
    mantissa: int,
    shift: int,
    output: Output,
) -> Tensor:
    """Normalize the last dimension of codes (…, C): gain (C,) int16, bias (C,) int32, exponent (C,) uint8."""
    x = centered(codes, zero_point)
    if exponent is not None:
        x = x << exponent.to(torch.int64)
    standardized = standardize(x, epsilon, subtract_mean)
    scaled = (standardized * gain.to(torch.int64) + (1 << (GAIN_SHIFT - 1))) >> GAIN_SHIFT
    if bias is not None:
        scaled = scaled + bias.to(torch.int64)
    return requantize(scaled, mantissa, shift, output)


def standardize(x: Tensor, epsilon: int, subtract_mean: bool) -> Tensor:
    """Rows (…, C) of int64 integers with C·|x| ≤ 2^30 → standardized values in steps of 2^−16."""
    channels = x.shape[-1]
    mean_times_channels = x.sum(-1, keepdim=True) if subtract_mean else torch.zeros_like(x[..., :1])
    c = channels * x - mean_times_channels
    q = channels * x.square().sum(-1, keepdim=True) - mean_times_channels.square() + epsilon
    inverse, k = inverse_sqrt(q.clamp(min=1))
    down = (61 - STANDARDIZED_BITS) - k
    return (c * inverse + (torch.ones_like(down) << (down - 1))) >> down


def inverse_sqrt(q: Tensor) -> tuple[Tensor, Tensor]:
    """For q in [1, 2^62): (inv, k) with 1/√q ≈ inv · 2^(k−61), inv in [2^30, 2^31]."""
    k = (62 - bit_length(q)) // 2
    root = isqrt(q << (2 * k))
    return (1 << 61) // root, k


def bit_length(value: Tensor) -> Tensor:
    """Number of bits of positive int64 values, like ``int.bit_length``."""
    _, exponent = torch.frexp(value.to(torch.float64))
    exponent = exponent.to(torch.int64)
    # Rounding to float64 may carry a value just below a power of two up to it.
    return exponent - ((value >> (exponent - 1)) == 0).to(torch.int64)


def isqrt(value: Tensor) -> Tensor:
    """Exact ⌊√value⌋ of int64 values in [0, 2^62)."""
    root = value.to(torch.float64).sqrt().to(torch.int64)
    root = root - (root * root > value).to(torch.int64)
    return root + ((root + 1) * (root + 1) <= value).to(torch.int64)
