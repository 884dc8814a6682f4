"""One block of a student: its tap rounds the constant entries of the cache as it rounds those of the tokens."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from mobilequant.arch import point
from mobilequant.models import decoder
from mobilequant.models.decoder import Tap
from mobilequant.models.model import KVPrefix, Model


def rounded_block(model: Model, layer: int, hidden: Tensor, tap: Tap, prefix: KVPrefix | None) -> Tensor:
    """Residual (B, T, C) → residual (B, T, C); the entries of the prefix are not rounded yet."""
    if prefix is not None:
        keys = tap(point.key_point(model.arch, layer), prefix.keys[layer])
        prefix = with_entries(prefix, layer, keys, tap(point.at(layer, "v"), prefix.values[layer]))
    return decoder.block(model, layer, hidden, tap=tap, prefix=prefix)


def with_entries(prefix: KVPrefix, layer: int, keys: Tensor, values: Tensor) -> KVPrefix:
    """The prefix with other keys and values (G, P, D) in one layer."""
    return replace(
        prefix,
        keys=(*prefix.keys[:layer], keys, *prefix.keys[layer + 1 :]),
        values=(*prefix.values[:layer], values, *prefix.values[layer + 1 :]),
    )
