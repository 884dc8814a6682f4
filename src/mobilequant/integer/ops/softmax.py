"""Softmax in integers: powers of two from a table and a shift, then one exact rounded division.

    d = max(visible x) − x                       scores are int16, so 0 ≤ d < 2^16
    t = rescale(d)                               in 1/256 octaves: factor = scale · log2(e) · 256
    e = (table[t & 255] + half) >> (t >> 8)      2^16 · 2^(−t/256); 0 from 17 octaves on; 0 where masked
    p = ⌊(2·one·e + Σe) / (2·Σe)⌋                one = 256 for uint8, 32768 for 16-bit; saturated to the format

The mask never becomes a number: a masked score takes no part in the maximum, the sum or the output.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mobilequant.numerics.fixed_point import rescale

EXP_BITS = 16
OCTAVE_BITS = 8
ZERO_OCTAVES = EXP_BITS + 1  # 2^16 >> 17 with rounding is 0


def exp2_table() -> np.ndarray:
    """round(2^16 · 2^(−j/256)) for j = 0…255, as int32."""
    j = np.arange(1 << OCTAVE_BITS)
    return np.rint(2.0 ** (EXP_BITS - j / (1 << OCTAVE_BITS))).astype(np.int32)


def integer_softmax(
    scores: Tensor, visible: Tensor, table: Tensor, *, mantissa: int, shift: int, one: int, qmax: int
) -> Tensor:
    """Scores (H, T, S) int16, visible (T, S) bool → probabilities (H, T, S) in steps of 1/one, as int64.

    Every token must see at least one token (itself).
    """
    exponentials = _exponentials(scores, visible, table, mantissa, shift)
    total = exponentials.sum(-1, keepdim=True)
    # Exact: the quotient is at least 1/(2·total) away from the next integer, far more than a float64 rounding.
    quotient = (exponentials * (2 * one) + total).to(torch.float64) / (2 * total).to(torch.float64)
    return quotient.floor_().clamp_(max=qmax).to(torch.int64)


def _exponentials(scores: Tensor, visible: Tensor, table: Tensor, mantissa: int, shift: int) -> Tensor:
    scores = scores.to(torch.int64)
    largest = scores.masked_fill(~visible, -(1 << 15)).amax(-1, keepdim=True)
    distance = (largest - scores).clamp_(min=0)
    t = rescale(distance, mantissa, shift)
    octaves = (t >> OCTAVE_BITS).clamp_(max=ZERO_OCTAVES)
    value = table.to(torch.int64)[t & ((1 << OCTAVE_BITS) - 1)]
    half = (torch.ones_like(octaves) << octaves) >> 1
    return ((value + half) >> octaves).masked_fill_(~visible, 0)
