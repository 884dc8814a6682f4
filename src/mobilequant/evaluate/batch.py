"""How many sequences a model is given at once.

A GPU waits for every operation to be started, whether it has one sequence to work on or forty: so as many run together
as there is memory for logits, the largest tensor of a small model. A CPU is busy with one, and its sums in floating
point are then the same whatever else is scored.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

# Of a GPU's whole memory, for one executor's logits in float32; a single sequence may have more.
_LOGITS_SHARE = 1 / 40


def tokens_at_once(device: torch.device | str, vocab_size: int) -> int:
    """How many tokens a batch may have, padding among them; 1 stands for one sequence at a time."""
    if torch.device(device).type == "cpu":
        return 1
    room = _LOGITS_SHARE * torch.cuda.get_device_properties(device).total_memory
    return max(1, int(room // (torch.float32.itemsize * vocab_size)))


def batch_size(length: int, tokens: int) -> int:
    """How many sequences of a length make a batch of at most so many ``tokens``; at least one."""
    return max(1, tokens // length)


def batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Indices of sequences that run together, all filled up to the longest of a batch; the longest ones come first."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i], reverse=True)
    found, start = [], 0
    while start < len(order):
        size = batch_size(lengths[order[start]], tokens)
        found.append(order[start : start + size])
        start += size
    return found
