"""Too little memory on a GPU, told as an error that says where and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mobilequant.errors import ResourceError

_OF_TRAINING = "Make the batch of the method or training.window of the recipe smaller, or set recompute: true."
OF_PASSES = (
    "Make data.window of the recipe smaller, or data.count where a method is led block by block; or use --device cpu."
)


@contextmanager
def naming(work: str, remedy: str = _OF_TRAINING) -> Iterator[None]:
    """Call what is done inside ``work`` when memory does not suffice for it, and name the knobs that help.

    Raises:
        ResourceError: it does not.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ResourceError(f"the GPU has not enough memory for {work}", remedy) from error
