"""Functions of one tensor as tables: 256 entries for 8-bit inputs, 513 with interpolation for 16-bit inputs.

The 16-bit form is the TOSA 1.0 TABLE operator followed by a rounding shift of 7:

    i = (x + 2^15) >> 7,  f = x & 127            value = table[i]·128 + (table[i+1] − table[i])·f
    y = (value + 64) >> 7
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


def table16(function: RealFunction, source: QParams, target: QParams) -> np.ndarray:
    """513 int16 codes at the inputs −32768, −32640, …, 32768 of a symmetric 16-bit tensor."""
    real = (np.arange(513) * 128 - 32768) * source.scale
    return _codes(function(real), target).astype(np.int16)


def _codes(real: np.ndarray, target: QParams) -> np.ndarray:
    codes = np.floor(real / target.scale + 0.5) + target.zero_point
    return np.clip(codes, target.qtype.qmin, target.qtype.qmax)


def look_up8(codes: Tensor, table: Tensor) -> Tensor:
    """table[code] for uint8 codes."""
    return table[codes.to(torch.int64)]


def look_up16(codes: Tensor, table: Tensor) -> Tensor:
    """Interpolated look-up for int16 codes; the result is int16."""
    x = codes.to(torch.int64)
    index, fraction = (x + (1 << 15)) >> 7, x & 127
    entries = table.to(torch.int64)
    low = entries[index]
    return ((low * 128 + (entries[index + 1] - low) * fraction + 64) >> 7).to(torch.int16)
