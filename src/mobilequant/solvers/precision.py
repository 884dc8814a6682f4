"""In which precision a GPU multiplies matrices while something is trained.

TensorFloat-32 keeps 11 bits of each factor, several times as fast as float32. bfloat16 would be faster still, but its 8
bits cannot hold a code times a scale: the largest codes of an activation would move by half a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def tensor_float32() -> Iterator[None]:
    """Matrix products in TensorFloat-32 on GPUs; on CPUs nothing changes."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
