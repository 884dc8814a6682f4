"""Powers of two per channel: how far they may reach before the sums of an integer norm leave 64 bits."""

from __future__ import annotations

# Channels · 2^exponent of a norm's 16-bit input; see docs/integer-semantics.md, norm.
NORM_ROOM_BITS = 15


def largest_exponent(channels: int) -> int:
    """The largest e with channels · 2^e ≤ 2^15, and 0 where there is none."""
    return max(NORM_ROOM_BITS - (channels - 1).bit_length(), 0)
