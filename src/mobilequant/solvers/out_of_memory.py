"""Too little memory on a GPU, told as an error that says where and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mobilequant.errors import ResourceError


@contextmanager
def naming(work: str) -> Iterator[None]:
    """Call what is done inside ``work`` when memory does not suffice for it.

    Raises:
        ResourceError: it does not.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"the GPU has not enough memory for {work}",
            "Make the batch of the method or training.window of the recipe smaller, or set recompute: true.",
        ) from error
