"""Functions of one tensor as tables: 256 entries for 8-bit inputs, 513 with interpolation for 16-bit inputs.

The 16-bit form is the TOSA 1.0 TABLE operator followed by a rounding shift:

    i = (x + 2^15) >> 7,  f = x & 127            value = table[i]·128 + (table[i+1] − table[i])·f
    y = (value + 2^(n−1)) >> n                   n = 7, or 14 where the output has 8 bits

Entries for an 8-bit output carry 7 bits of fraction, so that rounding them does not add to rounding the output.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mobilequant.numerics.qparams import QParams

RealFunction = Callable[[np.ndarray], np.ndarray]


def table8(function: RealFunction, source: QParams, target: QParams) -> np.ndarray:
    """256 codes of the target: function(real value of each input code)."""
    real = (np.arange(256) - source.zero_point) * source.scale
    return _codes(function(real), target).astype(target.qtype.storage)


def table16(function: RealFunction, source: QParams, target: QParams, fraction_bits: int = 0) -> np.ndarray:
    """513 int16 codes, in steps of 2^−fraction_bits, at −32768, −32640, …, 32768 of a symmetric 16-bit tensor."""
    real = (np.arange(513) * 128 - 32768) * source.scale
    return _codes(function(real), target, 1 << fraction_bits).astype(np.int16)


def _codes(real: np.ndarray, target: QParams, steps: int = 1) -> np.ndarray:
    codes = np.floor(real / target.scale * steps + 0.5) + target.zero_point * steps
    return np.clip(codes, target.qtype.qmin * steps, target.qtype.qmax * steps)


def look_up8(codes: Tensor, table: Tensor) -> Tensor:
    """table[code] for uint8 codes."""
    return table[codes.to(torch.int64)]


def look_up16(codes: Tensor, table: Tensor, fraction_bits: int = 0) -> Tensor:
    """Interpolated look-up for int16 codes, as int64; ``fraction_bits`` are those of the entries."""
    x = codes.to(torch.int64)
    index, fraction = (x + (1 << 15)) >> 7, x & 127
    entries = table.to(torch.int64)
    low = entries[index]
    shift = 7 + fraction_bits
    return (low * 128 + (entries[index + 1] - low) * fraction + (1 << (shift - 1))) >> shift
