"""Tuned prefix: the constant keys and values themselves as leaves (CushionCache, arXiv 2406.12016)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mobilequant.arch import point
from mobilequant.models.model import KVPrefix
from mobilequant.solvers.learned.piece import Tensors, leaf


class PrefixEntries:
    """Added to the entries of each layer, in units of their root mean square; starts at zero."""

    def __init__(self, prefix: KVPrefix) -> None:
        entries = zip(prefix.keys, prefix.values, strict=True)
        self._leaves = [(leaf(0 * keys), leaf(0 * values)) for keys, values in entries]

    def parameters(self, part: str) -> Tensors:
        """Two leaves per block."""
        if not part.startswith("layers."):
            return {}
        keys, values = self._leaves[point.layer_of(part)]
        return {f"{part}.prefix_key": keys, f"{part}.prefix_value": values}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """Nothing: the prefix is no part of the weights."""
        return {}

    def rewrite_cache(self, keys: Tensor, values: Tensor, part: str) -> tuple[Tensor, Tensor]:
        """The tuned entries (G, P, D) of a block."""
        more_keys, more_values = self._leaves[point.layer_of(part)]
        return keys + _size(keys) * more_keys, values + _size(values) * more_values


def _size(entries: Tensor) -> Tensor:
    return entries.detach().square().mean().sqrt()
