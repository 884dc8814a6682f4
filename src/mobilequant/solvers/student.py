"""The student: a model whose forward pass rounds as integers will, with leaves that training may move.

    float tensors ─▶ piece ─▶ piece ─▶ … ─▶ tensors of one part ─▶ block, tapped by the learned ranges

A part is rewritten when it is computed and not before, so that with activation checkpointing the memory of one block's
rewritten tensors is all that is ever needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mobilequant.arch import point
from mobilequant.models import decoder
from mobilequant.models.model import KVPrefix, Model
from mobilequant.solvers.learned.activation_range import ActivationRanges
from mobilequant.solvers.learned.pair_scale import PairScales
from mobilequant.solvers.learned.piece import HEAD, Piece, Tensors


@dataclass(frozen=True)
class Student:
    """``pieces`` in the order in which they rewrite tensors; ``ranges`` rounds activations and is learned with them.

    ``recompute``: keep only what stands between blocks for the backward pass, and compute the rest again.
    """

    model: Model
    prefix: KVPrefix | None
    pieces: Sequence[Piece]
    ranges: ActivationRanges
    recompute: bool = False

    def parts(self) -> list[str]:
        """All parts in running order."""
        return [*(f"layers.{layer}" for layer in range(self.model.arch.num_layers)), HEAD]

    def learned(self) -> Iterator[Piece]:
        """Everything with leaves."""
        yield from (*self.pieces, self.ranges)

    def parameters(self, parts: Sequence[str]) -> Tensors:
        """Leaves of some parts by name."""
        return {
            name: leaf for piece in self.learned() for part in parts for name, leaf in piece.parameters(part).items()
        }

    def embed(self, tokens: Tensor) -> Tensor:
        """The first residual (B, T, C)."""
        start = len(self.prefix) if self.prefix else 0
        return decoder.embed(self.model, tokens, tap=self.ranges.tap, start=start)

    def block(self, layer: int, hidden: Tensor) -> Tensor:
        """Residual (B, T, C) → residual (B, T, C) through one block."""
        if self.recompute and torch.is_grad_enabled():
            result: Tensor = checkpoint(self._block, layer, hidden, use_reentrant=False, preserve_rng_state=False)
            return result
        return self._block(layer, hidden)

    def body(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) → the residual (B, T, C) behind the last block."""
        hidden = self.embed(tokens)
        for layer in range(self.model.arch.num_layers):
            hidden = self.block(layer, hidden)
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        """The last residual (B, T, C) → logits (B, T, V)."""
        return decoder.head(self.rewritten(HEAD), hidden, tap=self.ranges.tap)

    def rewritten(self, part: str) -> Model:
        """The model with the tensors of one part as the pieces leave them."""
        return self.model.with_tensors(self.tensors(part, self.pieces))

    def tensors(self, part: str, pieces: Sequence[Piece]) -> Tensors:
        """What some of the pieces change in a part."""
        seen, changed = dict(self.model.tensors), dict[str, Tensor]()
        for piece in pieces:
            rewritten = piece.rewrite(seen, part)
            seen |= rewritten
            changed |= rewritten
        return changed

    def _block(self, layer: int, hidden: Tensor) -> Tensor:
        part = f"layers.{layer}"
        return decoder.block(self.rewritten(part), layer, hidden, tap=self.ranges.tap, prefix=self._cached(layer, part))

    def _cached(self, layer: int, part: str) -> KVPrefix | None:
        """The prefix with the entries of one layer as its cache holds them."""
        if self.prefix is None:
            return None
        keys, values = self.prefix.keys[layer], self.prefix.values[layer]
        for piece in self.pieces:
            if isinstance(piece, PairScales):
                keys, values = piece.rewrite_cache(keys, values, part)
        keys = self.ranges.tap(point.key_point(self.model.arch, layer), keys)
        values = self.ranges.tap(point.at(layer, "v"), values)
        return KVPrefix(
            self.prefix.tokens,
            tuple(keys if at == layer else each for at, each in enumerate(self.prefix.keys)),
            tuple(values if at == layer else each for at, each in enumerate(self.prefix.values)),
        )
