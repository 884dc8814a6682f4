"""Blocks that are compiled: one function for all blocks of a *kind*, with all their tensors as arguments.

    block 0 ┐
    block 1 ┼─▶ named as if it were the first ─▶ one function
      …     ┘

Blocks of one kind differ in tensors alone. A family whose layers have a sliding window or none has two kinds; so has a
model of which some points are rounded in some blocks only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.models import decoder
from mobilequant.models.decoder import Tap, rope_factors, untouched
from mobilequant.models.model import KVPrefix, Model
from mobilequant.solvers.compiler import Compiler, Compute
from mobilequant.solvers.learned.piece import Tensors
from mobilequant.solvers.learned.range_tap import RangeKind, RangeTap
from mobilequant.solvers.rounded_block import rounded_block

_Entries = tuple[Tensor, Tensor]


def compiled_block(
    compiler: Compiler, model: Model, layer: int, hidden: Tensor, tap: Tap, prefix: KVPrefix | None
) -> Tensor:
    """``rounded_block``, compiled where it can be: residual (B, T, C) → residual (B, T, C)."""
    if not compiler.serves(hidden) or not is_traceable(tap):
        return rounded_block(model, layer, hidden, tap, prefix)
    kind, numbers = _kind_of(model, layer, tap, prefix)
    if torch.is_grad_enabled() and not hidden.requires_grad:
        hidden = hidden.detach().requires_grad_()  # the first block is of the same kind as the others then
    entries = (prefix.keys[layer], prefix.values[layer]) if prefix else None
    given = (_tensors_of(model, layer, hidden, prefix), numbers, entries, hidden)
    function = compiler.function(kind, lambda: _block_of(kind), given)
    return function(*given) if function else rounded_block(model, layer, hidden, tap, prefix)


def compiled_body(compiler: Compiler, model: Model, tokens: Tensor, prefix: KVPrefix | None) -> Tensor:
    """``decoder.body`` where nothing is rounded: tokens (B, T) → the residual (B, T, C) behind the last block."""
    hidden = decoder.embed(model, tokens, start=len(prefix) if prefix else 0)
    for layer in range(model.arch.num_layers):
        hidden = compiled_block(compiler, model, layer, hidden, untouched, prefix)
    return hidden


def is_traceable(tap: Tap) -> bool:
    """Whether a tap is a function of tensors that are known."""
    return tap is untouched or isinstance(tap, RangeTap)


@dataclass(frozen=True)
class _Kind:
    """What blocks have in common that one function computes; ``arch`` has a single layer."""

    arch: Architecture
    ranges: RangeKind | None
    tokens: tuple[int, ...] | None


def _kind_of(model: Model, layer: int, tap: Tap, prefix: KVPrefix | None) -> tuple[_Kind, Tensors]:
    """The kind of a block, and the numbers of its ranges."""
    arch, tokens = replace(model.arch, layers=(model.arch.layers[layer],)), prefix.tokens if prefix else None
    if not isinstance(tap, RangeTap):
        return _Kind(arch, None, tokens), {}
    first = tap.in_first_block()
    return _Kind(arch, first.kind, tokens), first.numbers


def _tensors_of(model: Model, layer: int, hidden: Tensor, prefix: KVPrefix | None) -> Tensors:
    """All that the block reads of a model, under the names of the first one."""
    part = point.at(layer, "")
    tensors = {point.as_first(name): each for name, each in model.tensors.items() if name.startswith(part)}
    if model.residual_scale is not None:
        tensors[point.RESIDUAL_SCALE] = model.residual_scale
    rope = model.arch.layers[layer].rope
    if rope:
        start = len(prefix) if prefix else 0
        factors = rope_factors(rope, start, hidden.shape[1], hidden.device, hidden.dtype)
        tensors[point.at(0, point.ROPE_FACTORS)] = factors
    return tensors


def _block_of(kind: _Kind) -> Compute:
    def compute(tensors: Tensors, numbers: Tensors, entries: _Entries | None, hidden: Tensor) -> Tensor:
        tap = RangeTap(kind.ranges, numbers) if kind.ranges else untouched
        prefix = KVPrefix(kind.tokens, (entries[0],), (entries[1],)) if kind.tokens and entries else None
        return rounded_block(Model(kind.arch, tensors), 0, hidden, tap, prefix)

    return compute
