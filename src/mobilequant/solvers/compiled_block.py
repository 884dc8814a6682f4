"""Blocks that a compiler has fused: what lies between two products of matrices is read and written once.

    block 0 ┐
    block 1 ┼─▶ named as if it were the first, all tensors as arguments ─▶ one function per *kind* of block
      …     ┘

A step of a small model moves memory: a fake quantizer, a norm, a mask are kernels of their own that each read and
write all of an activation. torch.compile fuses them, forward and backward. Since blocks of one kind differ in tensors
alone, it compiles once, or twice where a family has layers with a sliding window and layers without. A function lives
as long as its student and knows one shape.

What cannot be compiled is computed as without a compiler: its first call runs both directions on copies, and where
that fails, a warning is all that comes of it. ``TORCH_COMPILE_DISABLE=1`` in the environment turns all of this off.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.models import decoder
from mobilequant.models.decoder import Tap, rope_factors, untouched
from mobilequant.models.model import KVPrefix, Model
from mobilequant.solvers.learned.piece import Tensors
from mobilequant.solvers.learned.range_tap import RangeKind, RangeTap
from mobilequant.solvers.rounded_block import rounded_block

_log = logging.getLogger(__name__)
Entries = tuple[Tensor, Tensor]
_Compute = Callable[[Tensors, Tensors, Entries | None, Tensor], Tensor]
_Given = tuple[Tensors, Tensors, Entries | None, Tensor]
# A true division, as where nothing is compiled: an approximate one moves codes that lie near an edge. It has had two
# names, and none where it is not needed.
_DIVISION = ("eager_numerics.division_rounding", "emulate_divison_rounding")


class CompiledBlocks:
    """``rounded_block``, compiled for tensors on devices of one type."""

    def __init__(self, device_type: str = "cuda", backend: str = "inductor") -> None:
        self._device_type, self._backend = device_type, backend
        self._functions: dict[Hashable, _Compute] = {}
        self._failed = False

    @property
    def num_functions(self) -> int:
        """How many functions have been compiled so far."""
        return len(self._functions)

    def block(self, model: Model, layer: int, hidden: Tensor, tap: Tap, prefix: KVPrefix | None) -> Tensor:
        """Residual (B, T, C) → residual (B, T, C); the entries of the prefix are not rounded yet."""
        if self._failed or hidden.device.type != self._device_type or not _is_traceable(tap):
            return rounded_block(model, layer, hidden, tap, prefix)
        kind, numbers = _kind_of(model, layer, tap, prefix)
        tensors = _tensors_of(model, layer, hidden, prefix)
        entries = (prefix.keys[layer], prefix.values[layer]) if prefix else None
        if torch.is_grad_enabled() and not hidden.requires_grad:
            hidden = hidden.detach().requires_grad_()  # the first block is of the same kind as the others then
        given = (tensors, numbers, entries, hidden)
        function = self._function(kind, given)
        return function(*given) if function else rounded_block(model, layer, hidden, tap, prefix)

    def body(self, model: Model, tokens: Tensor, *, prefix: KVPrefix | None = None) -> Tensor:
        """``decoder.body`` where nothing is rounded: tokens (B, T) → the residual (B, T, C) behind the last block."""
        hidden = decoder.embed(model, tokens, start=len(prefix) if prefix else 0)
        for layer in range(model.arch.num_layers):
            hidden = self.block(model, layer, hidden, untouched, prefix)
        return hidden

    def _function(self, kind: _Kind, given: _Given) -> _Compute | None:
        """What computes blocks of a kind in the shapes that are given; None where it cannot be compiled."""
        key = (kind, given[-1].shape, torch.is_grad_enabled())
        if key not in self._functions:
            function = _compiled(kind, self._backend, self._device_type)
            try:
                _try(function, given)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                self._failed = True
                _log.warning("blocks are not compiled, training goes on without: %s", error)
                return None
            self._functions[key] = function
        return self._functions[key]


@dataclass(frozen=True)
class _Kind:
    """What blocks have in common that one function computes; ``arch`` has a single layer."""

    arch: Architecture
    ranges: RangeKind | None
    tokens: tuple[int, ...] | None


def _is_traceable(tap: Tap) -> bool:
    return tap is untouched or isinstance(tap, RangeTap)


def _kind_of(model: Model, layer: int, tap: Tap, prefix: KVPrefix | None) -> tuple[_Kind, Tensors]:
    """The kind of a block, and the numbers of its ranges."""
    arch, tokens = replace(model.arch, layers=(model.arch.layers[layer],)), prefix.tokens if prefix else None
    if not isinstance(tap, RangeTap):
        return _Kind(arch, None, tokens), {}
    first = tap.in_first_block()
    return _Kind(arch, first.kind, tokens), first.numbers


def _tensors_of(model: Model, layer: int, hidden: Tensor, prefix: KVPrefix | None) -> Tensors:
    """All that the block reads of a model, under the names of the first one."""
    mine = f"{point.part_of(point.at(layer, ''))}."
    tensors = {point.as_first(name): each for name, each in model.tensors.items() if name.startswith(mine)}
    if model.residual_scale is not None:
        tensors[point.RESIDUAL_SCALE] = model.residual_scale
    rope = model.arch.layers[layer].rope
    if rope:
        start = len(prefix) if prefix else 0
        factors = rope_factors(rope, start, hidden.shape[1], hidden.device, hidden.dtype)
        tensors[point.at(0, point.ROPE_FACTORS)] = factors
    return tensors


def _compiled(kind: _Kind, backend: str, device_type: str) -> _Compute:
    def compute(tensors: Tensors, numbers: Tensors, entries: Entries | None, hidden: Tensor) -> Tensor:
        tap = RangeTap(kind.ranges, numbers) if kind.ranges else untouched
        prefix = KVPrefix(kind.tokens, (entries[0],), (entries[1],)) if kind.tokens and entries else None
        return rounded_block(Model(kind.arch, tensors), 0, hidden, tap, prefix)

    # The compiler keeps what it has made with the code of a function, a few versions at most: so each has its own code.
    own = FunctionType(compute.__code__.replace(), compute.__globals__, compute.__name__, None, compute.__closure__)
    options = _options(device_type) if backend == "inductor" else None
    found: _Compute = torch.compile(own, fullgraph=True, dynamic=False, backend=backend, options=options)
    return found


def _options(device_type: str) -> dict[str, Any]:
    known = torch._inductor.list_options()
    options: dict[str, Any] = {name: True for name in _DIVISION if name in known}
    # On a CPU blocks are compiled in tests alone. With vectors, its backend in torch 2.13 writes behind a buffer's end.
    return options | ({"cpp.simdlen": 1} if device_type == "cpu" else {})


def _try(function: _Compute, given: _Given) -> None:
    """Compile both directions and run them once, on copies, so that neither can fail for the first time in a step."""
    tensors, numbers, entries, hidden = given
    leaves: list[Tensor] = []

    def copy(each: Tensor) -> Tensor:
        copied = each.detach().requires_grad_(each.requires_grad)
        leaves.extend([copied] * each.requires_grad)
        return copied

    copies = (
        {name: copy(each) for name, each in tensors.items()},
        {name: copy(each) for name, each in numbers.items()},
        (copy(entries[0]), copy(entries[1])) if entries else None,
        copy(hidden),
    )
    with torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is):  # nothing of this is to be computed twice
        result = function(*copies)
        if result.requires_grad:
            torch.autograd.grad(result, leaves, torch.ones_like(result), allow_unused=True)


def _as_it_is(value: Tensor) -> Tensor:
    return value
