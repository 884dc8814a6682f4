"""Softmax in integers: powers of two from a table and a shift, then one exact rounded division.

    d = max(visible x) − x                       scores have at most 16 bits, so 0 ≤ d < 2^16
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


def exponential_table(table: Tensor, mantissa: int, shift: int) -> Tensor:
    """e for every distance d = 0 … 2^16 − 1 of two scores, as int32: a function of one small integer."""
    t = rescale(torch.arange(1 << 16, device=table.device), mantissa, shift)
    octaves = (t >> OCTAVE_BITS).clamp_(max=ZERO_OCTAVES)
    value = table.to(torch.int64)[t & ((1 << OCTAVE_BITS) - 1)]
    half = (torch.ones_like(octaves) << octaves) >> 1
    return ((value + half) >> octaves).to(torch.int32)


def integer_softmax(scores: Tensor, visible: Tensor, exponentials: Tensor, *, one: int, qmax: int) -> Tensor:
    """Scores (…, T, S) int16 or uint8, visible (T, S) bool → probabilities (…, T, S) in steps of 1/one, as float64.

    Every token must see at least one token (itself). ``exponentials`` is the result of ``exponential_table``.
    """
    scores = scores.to(torch.int32)
    largest = scores.masked_fill(~visible, -(1 << 15)).amax(-1, keepdim=True)
    distance = (largest - scores).clamp_(min=0)
    e = exponentials[distance].masked_fill_(~visible, 0)
    total = e.sum(-1, keepdim=True, dtype=torch.int64).to(torch.float64)
    # Exact: a quotient that is not an integer is at least 1/(2·total) away from one, far more than a rounding.
    return e.to(torch.float64).mul_(2 * one).add_(total).div_(2 * total).floor_().clamp_(max=qmax)
