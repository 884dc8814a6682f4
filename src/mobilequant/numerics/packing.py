"""Two 4-bit codes per byte.

byte:   7 6 5 4 | 3 2 1 0
        code[1] | code[0]        two's complement, the even column in the low nibble
"""

from __future__ import annotations

import numpy as np


def pack_int4(codes: np.ndarray) -> np.ndarray:
    """Pack int8 codes in [−8, 7], shape (O, I), into uint8 of shape (O, ⌈I/2⌉); an odd I is padded with 0.

    Raises:
        ValueError: a code does not fit in four bits.
    """
    if codes.size and (codes.min() < -8 or codes.max() > 7):
        raise ValueError("int4 codes must lie in [-8, 7]")
    if codes.shape[1] % 2:
        codes = np.concatenate([codes, np.zeros((codes.shape[0], 1), codes.dtype)], axis=1)
    nibbles = codes.astype(np.uint8) & 0x0F
    return nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)


def unpack_int4(packed: np.ndarray, columns: int) -> np.ndarray:
    """Inverse of ``pack_int4``: int8 codes of shape (O, columns).

    Raises:
        ValueError: the packed width does not belong to that number of columns.
    """
    if packed.shape[1] != (columns + 1) // 2:
        raise ValueError(f"{packed.shape[1]} packed bytes per row do not hold {columns} int4 codes")
    low, high = packed & 0x0F, packed >> 4
    nibbles = np.stack([low, high], axis=2).reshape(packed.shape[0], -1)[:, :columns]
    return ((nibbles ^ 0x08).astype(np.int8) - 8).astype(np.int8)
