"""Memory that was freed goes back to the system.

Long passes free large tensors between small ones that stay. glibc keeps such gaps for itself and fills them badly: a
pass for ranges over 24 windows grew by 3 GB of nothing.
"""

from __future__ import annotations

import ctypes


def return_freed_memory() -> None:
    """Give the gaps back; takes some 20 ms, so once per window or block. Systems without glibc need no help."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another libc, another system
        return
    trim(0)
