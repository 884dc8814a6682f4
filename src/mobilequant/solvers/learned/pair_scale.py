"""Learned equalization: the free scales of scale pairs as leaves (OmniQuant's LET, arXiv 2308.13137, eq. 3–5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from mobilequant.arch.architecture import Architecture
from mobilequant.arch.pair import Kind, ScalePair, consumer_index, producer_index, scale_pairs
from mobilequant.arch.point import HEAD, part_of
from mobilequant.solvers.learned.piece import Tensors, leaf
from mobilequant.solvers.scaled_matrix import scaled_matrix

SMALLEST = 1e-2  # published: a scale is never smaller


@dataclass(frozen=True)
class Parametrization:
    """How a free scale of one is written as a leaf, and how it comes back."""

    start: float
    scale: Callable[[Tensor], Tensor]


def _logarithm(value: Tensor) -> Tensor:
    return value.exp()


def _plain(value: Tensor) -> Tensor:
    return torch.where(value.abs() < SMALLEST, SMALLEST, value.abs())


LOGARITHM = Parametrization(0.0, _logarithm)
PLAIN = Parametrization(1.0, _plain)  # as MobileQuant trains it


class PairScales:
    """Free scales that start at one, on top of what is folded; tied heads are left out (powers of two only)."""

    def __init__(
        self, arch: Architecture, kinds: Iterable[Kind], device: torch.device, how: Parametrization = LOGARITHM
    ) -> None:
        allowed = frozenset(kinds)
        self._how = how
        self._pairs = [_Placed.of(arch, p, device) for p in scale_pairs(arch) if p.kind in allowed and not p.tied]
        self._leaves = {
            placed.pair.name: leaf(torch.full((placed.pair.num_channels,), how.start, device=device))
            for placed in self._pairs
        }

    def parameters(self, part: str) -> Tensors:
        """One leaf per pair."""
        return {f"{placed.pair.name}.free_scale": self._leaves[placed.pair.name] for placed in self._in(part)}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """The folded tensors of a part. Each is rewritten once, by the product of all factors of its rows and columns,
        because tensors are large and factors are not."""
        rows, columns = dict[str, Tensor](), dict[str, Tensor]()
        for placed in self._in(part):
            scale = self._scale(placed, tensors[f"{placed.pair.producers[0]}.weight"].dtype)
            divided, multiplied = placed.producers.spread(1 / scale), placed.consumers.spread(scale)
            for module in placed.pair.producers:
                rows[module] = divided * rows[module] if module in rows else divided
            axis = rows if placed.pair.consumer_axis == "output" else columns
            for module in placed.pair.consumers:
                axis[module] = multiplied * axis[module] if module in axis else multiplied
        changed: Tensors = {}
        for module in dict.fromkeys((*rows, *columns)):
            changed |= _folded(tensors, module, rows.get(module), columns.get(module))
        return changed

    def rewrite_cache(self, keys: Tensor, values: Tensor, part: str) -> tuple[Tensor, Tensor]:
        """Constant keys and values (G, P, D) of a block as the folded projections would have made them."""
        for placed in self._in(part):
            if placed.pair.kind == "q_to_k":
                factor = placed.consumers.spread(self._scale(placed, keys.dtype))
                keys = keys * factor.view(-1, 1, keys.shape[-1])
            if placed.pair.kind == "v_to_o":
                divisor = placed.producers.spread(self._scale(placed, values.dtype))
                values = values / divisor.view(-1, 1, values.shape[-1])
        return keys, values

    def _scale(self, placed: _Placed, dtype: torch.dtype) -> Tensor:
        return self._how.scale(self._leaves[placed.pair.name]).to(dtype)

    def _in(self, part: str) -> list[_Placed]:
        return [placed for placed in self._pairs if placed.part == part]


def _folded(tensors: Mapping[str, Tensor], module: str, rows: Tensor | None, columns: Tensor | None) -> Tensors:
    """A module with its weight rows (or gains) and bias times ``rows``, and its columns times ``columns``."""
    weight, bias = tensors[f"{module}.weight"], tensors.get(f"{module}.bias")
    rows, columns = (None if each is None else each.to(weight) for each in (rows, columns))
    if rows is None:
        return {f"{module}.weight": scaled_matrix(weight, None, columns)}
    scaled = weight * rows if weight.dim() == 1 else scaled_matrix(weight, rows, columns)
    return {f"{module}.weight": scaled} | ({} if bias is None else {f"{module}.bias": bias * rows.to(bias)})


@dataclass(frozen=True)
class _Placed:
    """A pair with its index maps on the device, made once because a captured step may not copy from the host."""

    pair: ScalePair
    part: str
    producers: _Map
    consumers: _Map

    @classmethod
    def of(cls, arch: Architecture, pair: ScalePair, device: torch.device) -> _Placed:
        part = HEAD if pair.layer is None else part_of(pair.name)
        maps = (_Map.of(index(arch, pair), pair.num_channels, device) for index in (producer_index, consumer_index))
        return cls(pair, part, *maps)


@dataclass(frozen=True)
class _Map:
    """Which entry of a free scale belongs to each channel, and back: the channels (entries, most) of each entry, filled
    up with a channel that does not exist. None where both are the same."""

    entries: Tensor | None
    channels: Tensor | None

    @classmethod
    def of(cls, index: list[int], num_entries: int, device: torch.device) -> _Map:
        if index == list(range(num_entries)):
            return cls(None, None)
        channels: list[list[int]] = [[] for _ in range(num_entries)]
        for channel, entry in enumerate(index):
            channels[entry].append(channel)
        most = max(map(len, channels))
        filled = [each + [len(index)] * (most - len(each)) for each in channels]
        return cls(torch.tensor(index, device=device), torch.tensor(filled, device=device))

    def spread(self, scale: Tensor) -> Tensor:
        """One number per channel."""
        return scale if self.entries is None else _spread(scale, self.entries, self.channels)


class _Spread(torch.autograd.Function):
    """Indexing whose gradient is a sum in a fixed order, in place of a sort for each (and so the same each time)."""

    @staticmethod
    def forward(ctx: Any, scale: Tensor, entries: Tensor, channels: Tensor) -> Tensor:
        ctx.save_for_backward(channels)
        return scale[entries]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (channels,) = ctx.saved_tensors
        return F.pad(grad_outputs[0], (0, 1))[channels].sum(1), None, None


_spread: Callable[..., Tensor] = _Spread.apply
