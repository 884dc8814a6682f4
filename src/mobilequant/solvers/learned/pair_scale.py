"""Learned equalization: the free scales of scale pairs as leaves (OmniQuant's LET, arXiv 2308.13137, eq. 3–5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mobilequant.arch.architecture import Architecture
from mobilequant.arch.pair import Kind, ScalePair, consumer_index, producer_index, scale_pairs
from mobilequant.arch.point import HEAD, part_of
from mobilequant.solvers.learned.gathered_factor import Gather, Place
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
        pairs = [pair for pair in scale_pairs(arch) if pair.kind in allowed and not pair.tied]
        self._leaves = {p.name: leaf(torch.full((p.num_channels,), how.start, device=device)) for p in pairs}
        of_parts: dict[str, list[ScalePair]] = {}
        for pair in pairs:
            of_parts.setdefault(HEAD if pair.layer is None else part_of(pair.name), []).append(pair)
        self._parts = {part: _Part.of(arch, mine, device) for part, mine in of_parts.items()}

    def parameters(self, part: str) -> Tensors:
        """One leaf per pair."""
        names = self._parts[part].weights.pairs if part in self._parts else ()
        return {f"{name}.free_scale": self._leaves[name] for name in names}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """The folded tensors of a part. Each is rewritten once, by the factors of its rows and its columns."""
        if part not in self._parts:
            return {}
        mine = self._parts[part]
        factors = self._factors(mine.weights, tensors[f"{mine.modules[0]}.weight"].dtype)
        changed: Tensors = {}
        for module in mine.modules:
            changed |= _folded(tensors, module, factors.get(_rows(module)), factors.get(_columns(module)))
        return changed

    def rewrite_cache(self, keys: Tensor, values: Tensor, part: str) -> tuple[Tensor, Tensor]:
        """Constant keys and values (G, P, D) of a block as the folded projections would have made them."""
        entries, mine = {"keys": keys, "values": values}, self._parts.get(part)
        if mine and mine.cache:
            for name, factor in self._factors(mine.cache, keys.dtype).items():
                entries[name] = entries[name] * factor.view(-1, 1, keys.shape[-1])
        return entries["keys"], entries["values"]

    def _factors(self, gather: Gather, dtype: torch.dtype) -> Tensors:
        leaves = torch.cat([self._leaves[name] for name in gather.pairs])
        return gather(self._how.scale(leaves).to(dtype))


@dataclass(frozen=True)
class _Part:
    """The modules that pairs of a part reach, and where the scales go: into them, and into what the cache holds."""

    modules: tuple[str, ...]
    weights: Gather
    cache: Gather | None

    @classmethod
    def of(cls, arch: Architecture, pairs: Sequence[ScalePair], device: torch.device) -> _Part:
        places: dict[str, Place] = {}
        for pair in pairs:
            places |= _places(arch, pair)
        cached = {name: places[side] for pair in pairs for name, side in _cached(pair).items()}
        modules = tuple(dict.fromkeys(module for pair in pairs for module in (*pair.producers, *pair.consumers)))
        sizes = {pair.name: pair.num_channels for pair in pairs}
        return cls(modules, Gather.of(places, sizes, device), Gather.of(cached, sizes, device) if cached else None)


def _places(arch: Architecture, pair: ScalePair) -> dict[str, Place]:
    """Rows and columns of modules; no two pairs meet at one of them."""
    divided = Place(pair.name, producer_index(arch, pair), divided=True)
    multiplied = Place(pair.name, consumer_index(arch, pair), divided=False)
    side = _rows if pair.consumer_axis == "output" else _columns
    return {_rows(m): divided for m in pair.producers} | {side(m): multiplied for m in pair.consumers}


def _cached(pair: ScalePair) -> dict[str, str]:
    """What a pair scales of the cache, and the place of its factors."""
    if pair.kind == "q_to_k":
        return {"keys": _rows(pair.consumers[0])}
    return {"values": _rows(pair.producers[0])} if pair.kind == "v_to_o" else {}


def _rows(module: str) -> str:
    return f"{module}.rows"


def _columns(module: str) -> str:
    return f"{module}.columns"


def _folded(tensors: Mapping[str, Tensor], module: str, rows: Tensor | None, columns: Tensor | None) -> Tensors:
    """A module with its weight rows (or gains) and bias times ``rows``, and its columns times ``columns``."""
    weight, bias = tensors[f"{module}.weight"], tensors.get(f"{module}.bias")
    if rows is None:
        return {f"{module}.weight": scaled_matrix(weight, None, columns)}
    scaled = weight * rows if weight.dim() == 1 else scaled_matrix(weight, rows, columns)
    return {f"{module}.weight": scaled} | ({} if bias is None else {f"{module}.bias": bias * rows})
