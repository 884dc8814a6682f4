"""Exact integer matrix products on ordinary floating-point units.

A product of integers summed in floating point is exact as long as no partial sum can leave the range in which every
integer is representable: 2^24 in float32, 2^53 in float64. The caller passes the proved bound of |sum|, so the result
is the integer sum whatever the order of summation, on CPU and CUDA alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

FLOAT32_EXACT = 1 << 24
FLOAT64_EXACT = 1 << 53


def exact_dtype(bound: int) -> torch.dtype:
    """The narrowest floating dtype in which sums of magnitude ≤ bound are exact.

    Raises:
        ValueError: not even float64 holds such sums exactly.
    """
    if bound > FLOAT64_EXACT:
        raise ValueError(f"sums up to {bound} cannot be formed exactly")
    return torch.float32 if bound <= FLOAT32_EXACT and _float32_is_whole() else torch.float64


def _float32_is_whole() -> bool:
    """Whether products of float32 are formed in float32: a caller may have allowed torch TF32 or bfloat16 for speed."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set per backend by torch's newer switches, which have no common answer
        return False


def exact_matmul(left: Tensor, right: Tensor, bound: int) -> Tensor:
    """Integer product (…, M, K) × (…, K, N) → int64 (…, M, N); every partial sum is at most ``bound``."""
    dtype = exact_dtype(bound)
    return (left.to(dtype) @ right.to(dtype)).to(torch.int64)
