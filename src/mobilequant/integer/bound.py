"""Proof that no accumulator can leave int32, from the actual weights and the format of the input."""

from __future__ import annotations

import numpy as np

from mobilequant.errors import LoweringError
from mobilequant.numerics.qparams import QParams

INT32_MAX = (1 << 31) - 1
_ELEMENTS_AT_ONCE = 1 << 17  # as int64 they stay in the cache: twenty times as fast as whole matrices of a 7B model


def accumulator_bound(
    codes: np.ndarray, group_multiplier: np.ndarray | None, bias: np.ndarray | None, source: QParams
) -> int:
    """Largest |accumulator| of any output channel, for any input codes of the format and any order of summation.

    It also covers kernels that multiply the raw codes and correct for the zero point afterwards:
    Σ|w|·max|code| + |zero_point·Σw| + |bias|.
    """
    largest_code = max(abs(source.qtype.qmin), source.qtype.qmax)
    bound, at_once = 0, max(1, _ELEMENTS_AT_ONCE // max(1, codes.shape[1]))
    for start in range(0, len(codes), at_once):
        rows = slice(start, start + at_once)
        weights = effective_weights(codes[rows], None if group_multiplier is None else group_multiplier[rows])
        largest = np.abs(weights).sum(1) * largest_code + np.abs(weights.sum(1) * source.zero_point)
        if bias is not None:
            largest += np.abs(bias[rows].astype(np.int64))
        bound = max(bound, int(largest.max()))
    return bound


def check_accumulator(
    name: str, codes: np.ndarray, group_multiplier: np.ndarray | None, bias: np.ndarray | None, source: QParams
) -> int:
    """The bound, refused if it does not fit.

    Raises:
        LoweringError: some input could overflow the int32 accumulator.
    """
    bound = accumulator_bound(codes, group_multiplier, bias, source)
    if bound > INT32_MAX:
        raise LoweringError(
            f"{name}: an input could drive the accumulator to {bound}, beyond int32",
            "Use an 8-bit input, smaller weights per row, or fewer input channels for this layer.",
        )
    return bound


def widest_symmetric_code(
    codes: np.ndarray, group_multiplier: np.ndarray | None, bias_per_code: np.ndarray | None
) -> int:
    """The largest |code| that a symmetric 16-bit input may take without leaving int32 (32767 for most layers).

    The range of the input stays, so with n codes a bias (O,) takes n · ``bias_per_code`` accumulator steps: it counts
    like one more weight.
    """
    row = np.abs(effective_weights(codes, group_multiplier)).sum(1).astype(np.float64)
    if bias_per_code is None:
        return int(min(32767, INT32_MAX // max(row.max(), 1)))
    # One step is left for the rounding of the bias.
    return int(min(32767, (INT32_MAX - 1) // max((row + np.abs(bias_per_code)).max(), 1)))


def effective_weights(codes: np.ndarray, group_multiplier: np.ndarray | None) -> np.ndarray:
    """codes · group_multiplier as int64 (O, I): what really enters the accumulator."""
    weights = codes.astype(np.int64)
    if group_multiplier is not None:
        weights *= group_multiplier.astype(np.int64).repeat(codes.shape[1] // group_multiplier.shape[1], axis=1)
    return weights
