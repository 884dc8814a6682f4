"""Random numbers that meet the edges of their range more often than chance has it, and how often to draw them."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

seeds = st.integers(0, 2**32 - 1)


def examples(count):
    """So many in the default profile; others take more in proportion. The same ones in every run."""
    scaled = max(1, count * settings.default.max_examples // 100)
    return settings(max_examples=scaled, deadline=None, derandomize=True)


def codes(rng, shape, low, high):
    """Codes in [low, high]: each row uniform, only ends, near one end, near one value, or all the same."""
    rows = np.empty(shape, dtype=np.int64)
    for row in rows.reshape(-1, shape[-1]) if rows.size else ():
        row[:] = _row(rng, len(row), low, high)
    return rows


def _row(rng, count, low, high):
    kind = rng.integers(6)
    if kind == 0:
        return rng.choice([low, high], count)
    if kind == 1:
        return np.full(count, rng.choice([low, high, rng.integers(low, high + 1)]))
    if kind == 2:
        return np.clip(rng.integers(low, high + 1) + rng.integers(-3, 4, count), low, high)
    if kind == 3:
        return np.where(rng.random(count) < 0.1, high, low)
    return rng.integers(low, high + 1, count)


def factors(rng, count, bound, reach, *, least_shift=2):
    """Mantissas and shifts (count) that bring values up to ``bound`` to about ``reach``, a few of them far from it."""
    shifts = rng.integers(least_shift, 63, count)
    ratio = reach / max(bound, 1) * 2.0 ** rng.uniform(-2, 3, count)
    mantissas = np.minimum(ratio * 2.0**shifts, 2**31 - 1).astype(np.int64)
    even = rng.random(count) < 0.3  # powers of two, with which many values lie in the middle of two codes
    mantissas = np.where(even, 1 << np.log2(np.maximum(mantissas, 1)).astype(np.int64), mantissas)
    wild = rng.random(count) < 0.1
    any_mantissa = np.where(rng.random(count) < 0.3, 2**31 - 1, rng.integers(0, 2**31, count))
    return np.where(wild, any_mantissa, mantissas), shifts


def factor(rng, bound, reach, *, least_shift=2):
    """One of them."""
    mantissa, shift = factors(rng, 1, bound, reach, least_shift=least_shift)
    return {"mantissa": int(mantissa[0]), "shift": int(shift[0])}


def limits(rng, dtype):
    """Zero point and limits of a tensor: most often those of the type, sometimes narrower."""
    low, high = (0, 255) if dtype == "uint8" else (-32767, 32767)
    if dtype == "int16":
        bound = int(rng.choice([high, high, high, rng.integers(1, high)]))
        return {"zero_point": 0, "qmin": -bound, "qmax": bound}
    zero_point = int(rng.choice([0, 128, 255, rng.integers(0, 256)]))
    if rng.random() < 0.8:
        return {"zero_point": zero_point, "qmin": low, "qmax": high}
    return {
        "zero_point": zero_point,
        "qmin": int(rng.integers(low, zero_point + 1)),
        "qmax": int(rng.integers(zero_point, high + 1)),
    }
