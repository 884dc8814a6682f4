"""Factors for many places, gathered at once: few operations on one vector in place of many on small ones.

    scales s of some pairs ─▶ s │ 1/s ─▶ at the rows of q │ at the columns of q │ at the rows of k │ …

On a GPU each exponential, reciprocal and spread of a vector is a kernel, and a block has a dozen places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from mobilequant.solvers.learned.piece import Tensors


@dataclass(frozen=True)
class Place:
    """Channels that a pair scales: which entry of its scale belongs to each, and whether it is divided by that."""

    pair: str
    entries: Sequence[int]
    divided: bool


@dataclass(frozen=True)
class Gather:
    """What brings the scales of ``pairs``, one behind the other, to all places; ``lengths`` are their channels.

    source (M,): for each channel of the places, the entry of s │ 1/s that belongs to it. targets (2N, most): the
    channels of each entry, filled up with M, which is none. Both lie on the device from the start, because a captured
    step may not copy from the host.
    """

    pairs: tuple[str, ...]
    lengths: Mapping[str, int]
    source: Tensor
    targets: Tensor

    @classmethod
    def of(cls, places: Mapping[str, Place], sizes: Mapping[str, int], device: torch.device) -> Gather:
        """For at least one place; sizes: entries of the scale of each pair."""
        pairs = tuple(dict.fromkeys(place.pair for place in places.values()))
        starts = dict(zip(pairs, accumulate((sizes[pair] for pair in pairs), initial=0), strict=False))
        total = sum(sizes[pair] for pair in pairs)
        source = [starts[p.pair] + entry + total * p.divided for p in places.values() for entry in p.entries]
        targets = torch.tensor(_targets(source, 2 * total), device=device)
        lengths = {name: len(place.entries) for name, place in places.items()}
        return cls(pairs, lengths, torch.tensor(source, device=device), targets)

    def __call__(self, scales: Tensor) -> Tensors:
        """The factor of each channel of each place, from the scales (N,) of all pairs."""
        factors = _gathered(scales, self.source, self.targets, tuple(self.lengths.values()))
        return dict(zip(self.lengths, factors, strict=True))


def _targets(source: Sequence[int], count: int) -> list[list[int]]:
    """The channels of each of ``count`` entries, filled up to rows of one length."""
    channels: list[list[int]] = [[] for _ in range(count)]
    for channel, entry in enumerate(source):
        channels[entry].append(channel)
    most = max(map(len, channels))
    return [each + [len(source)] * (most - len(each)) for each in channels]


class _Gather(torch.autograd.Function):
    """Its gradient is a sum in a fixed order, the same each time, where indexing would sort."""

    @staticmethod
    def forward(
        ctx: Any, scales: Tensor, source: Tensor, targets: Tensor, lengths: tuple[int, ...]
    ) -> tuple[Tensor, ...]:
        inverse = scales.reciprocal()
        ctx.save_for_backward(inverse, targets)
        return torch.cat((scales, inverse))[source].split(lengths)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        inverse, targets = ctx.saved_tensors
        arriving = torch.cat((*grad_outputs, inverse.new_zeros(1)))  # zero for the channel that is none
        multiplied, divided = arriving[targets].sum(1).chunk(2)
        return torch.addcmul(multiplied, divided, inverse.square(), value=-1), None, None, None


_gathered: Callable[..., tuple[Tensor, ...]] = _Gather.apply
