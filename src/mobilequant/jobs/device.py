"""The device on which a job computes."""

from __future__ import annotations

import torch

from mobilequant.errors import ResourceError, UsageError
from mobilequant.pipeline.quantity import size


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


def require_device_memory(needed_bytes: int, device: str) -> None:
    """Refuse what does not fit into the free memory of a GPU, before it is begun; a CPU has the memory of the host.

    Raises:
        ResourceError: gives both numbers and the knobs.
    """
    if torch.device(device).type != "cuda":
        return
    torch.cuda.empty_cache()  # memory that this process keeps of earlier work is free for it
    free_bytes, _ = torch.cuda.mem_get_info(device)
    if needed_bytes > free_bytes:
        raise ResourceError(
            f"this run needs about {size(needed_bytes)} of memory on the GPU, and {size(free_bytes)} are free there",
            "Lower data.window in the recipe, or the batch of a method that trains, set its recompute: true, or use a "
            "larger GPU.",
        )
