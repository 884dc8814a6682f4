"""Fixed-point multiplication: how an integer moves from one scale to another without a float.

    real multiplier  r  ≈  mantissa · 2^−shift,      2^30 ≤ mantissa < 2^31 (less below 2^−32),   2 ≤ shift ≤ 62
    rescale(v)       =  (v · mantissa + 2^(shift−1)) >> shift          (round half up, arithmetic shift)

This is TOSA 1.0 ``apply_scale_32`` with SINGLE_ROUND, so that every ``rescale`` is one TOSA RESCALE.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

MANTISSA_BITS = 31
MIN_SHIFT, MAX_SHIFT = 2, 62

Integers = TypeVar("Integers", bound=Any)  # int, an int64 numpy array or an int64 torch tensor


@dataclass(frozen=True)
class Multiplier:
    """One real factor as ``mantissa · 2^−shift``."""

    mantissa: int
    shift: int

    @property
    def real(self) -> float:
        """The factor that is really applied (off by at most 2^−31 of the one asked for; by 2^−62 below 2^−32)."""
        return math.ldexp(self.mantissa, -self.shift)


def multiplier(real: float) -> Multiplier:
    """The nearest fixed-point multiplier of a factor 0 ≤ real < 2^29.

    Raises:
        ValueError: the factor is negative, not finite, or too large for a shift of at least 2.
    """
    if not (math.isfinite(real) and real >= 0):
        raise ValueError(f"a rescale factor must be finite and not negative, got {real}")
    if real == 0:
        return Multiplier(0, MIN_SHIFT)
    fraction, exponent = math.frexp(real)  # real = fraction · 2^exponent, 0.5 ≤ fraction < 1
    mantissa, shift = round(math.ldexp(fraction, MANTISSA_BITS)), MANTISSA_BITS - exponent
    if mantissa == 1 << MANTISSA_BITS:
        mantissa, shift = mantissa >> 1, shift - 1
    if shift > MAX_SHIFT:  # so small that fewer mantissa bits lose nothing an int32 could show
        mantissa, shift = mantissa >> min(shift - MAX_SHIFT, MANTISSA_BITS), MAX_SHIFT
    if shift < MIN_SHIFT:
        raise ValueError(f"rescale factor {real:g} is 2^29 or more")
    return Multiplier(mantissa, shift)


def multipliers(reals: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Per-channel multipliers as (mantissa int32, shift int8) arrays of the same length."""
    found = [multiplier(float(real)) for real in reals]
    return (
        np.array([m.mantissa for m in found], dtype=np.int32),
        np.array([m.shift for m in found], dtype=np.int8),
    )


def rescale(value: Integers, mantissa: Any, shift: Any) -> Integers:
    """Multiply 64-bit integers by ``mantissa · 2^−shift``, rounding half up.

    ``value`` must fit in int32 although it is held in 64 bits, so that the product cannot overflow.
    """
    return (value * mantissa + (1 << (shift - 1))) >> shift
