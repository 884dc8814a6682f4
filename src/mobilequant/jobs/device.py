"""The device on which a job computes."""

from __future__ import annotations

import torch

from mobilequant.errors import UsageError


def require_device(device: str) -> None:
    """Refuse a device that cannot be used, before any work.

    Raises:
        UsageError: with the reason.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"the device {device!r} cannot be used: {reason}", "Use --device cpu.") from error
