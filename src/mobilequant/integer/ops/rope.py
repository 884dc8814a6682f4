"""Rotary embedding in integers, from tables of cosines and sines in steps of 2^−14.

    first' = first·cos − second·sin        second' = second·cos + first·sin        pass' = pass · 2^14

all at 2^−14 of the input step, then one rescale to the output. There is no negation of a tensor.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mobilequant.arch.architecture import Rope
from mobilequant.integer.ops.requantize import Output, centered, requantize

TABLE_BITS = 14


def rope_tables(rope: Rope, positions: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines, each (positions, rotary_dim/2) int16 in steps of 2^−14.

    Raises:
        ValueError: an attention factor of 2 or more does not fit the table.
    """
    angles = np.arange(positions)[:, None] * np.asarray(rope.inverse_frequencies, dtype=np.float64)
    one = rope.attention_factor * (1 << TABLE_BITS)
    if one >= 1 << 15:
        raise ValueError(f"RoPE attention factor {rope.attention_factor} does not fit 16-bit tables")
    return np.rint(np.cos(angles) * one).astype(np.int16), np.rint(np.sin(angles) * one).astype(np.int16)


def integer_rope(
    codes: Tensor, cos: Tensor, sin: Tensor, *, zero_point: int, mantissa: int, shift: int, output: Output
) -> Tensor:
    """Turn heads (…, T, H, D) by the tables' rows (T, rotary_dim/2) of their positions."""
    half = cos.shape[-1]
    x = centered(codes, zero_point)
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    cos, sin = cos.to(torch.int64)[:, None, :], sin.to(torch.int64)[:, None, :]
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin, rest << TABLE_BITS), dim=-1)
    return requantize(turned, mantissa, shift, output)
