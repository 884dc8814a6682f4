"""The student: a model whose forward pass rounds as integers will, with leaves that training may move.

    float tensors ─▶ transforms ─▶ weights ─▶ tensors of one part ─▶ block, tapped by the learned ranges

A part is rewritten when it is computed and not before, so that with ``recompute`` one block's rewritten tensors and
activations are all that is ever held besides the residuals between blocks, and the rewritten head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mobilequant.arch import point
from mobilequant.arch.point import HEAD
from mobilequant.models import decoder
from mobilequant.models.decoder import Tap
from mobilequant.models.model import KVPrefix, Model
from mobilequant.models.out_of_memory import naming
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.solvers.compiled_block import compiled_block
from mobilequant.solvers.compiled_head import compiled_divergence
from mobilequant.solvers.compiler import Compiler, compiler_for
from mobilequant.solvers.learned.piece import Piece, Tensors, Transform, Weights
from mobilequant.solvers.objective import top_divergence
from mobilequant.solvers.rounded_block import rounded_block, with_entries


class Ranges(Piece, Protocol):
    """The piece that rounds activations."""

    def tap(self, part: str) -> Tap:
        """What gives the readers of a point of this part its value."""
        ...

    def finished(self) -> dict[str, QParams]:
        """The learned parameters by point."""
        ...


@dataclass(frozen=True)
class Finished:
    """What training leaves: transformed float tensors, integer weights, parameters of activations."""

    tensors: Tensors
    weights: dict[str, QuantizedWeight]
    activations: dict[str, QParams]


@dataclass(frozen=True)
class Student:
    """``transforms`` in the order in which they rewrite tensors, then ``weights`` round them.

    compiler: used where gradients are wanted, and without one nothing is compiled. Looks at the model are rare and not
    worth compiling for; whether a training is depends on its steps (``for_training``).
    """

    model: Model
    prefix: KVPrefix | None
    transforms: Sequence[Transform]
    weights: Weights
    ranges: Ranges
    recompute: bool = False
    compiler: Compiler = field(default_factory=partial(Compiler, None), compare=False)

    def parts(self) -> list[str]:
        """All parts in running order."""
        return point.parts(self.model.arch)

    def parameters(self, parts: Sequence[str]) -> Tensors:
        """Leaves of some parts by name."""
        pieces = (*self.transforms, self.weights, self.ranges)
        return {name: leaf for piece in pieces for part in parts for name, leaf in piece.parameters(part).items()}

    def for_training(self, steps: int) -> Student:
        """The same leaves, computed in the way that is fastest for a training of so many steps."""
        return replace(self, compiler=compiler_for(steps))

    def embed(self, tokens: Tensor) -> Tensor:
        """The first residual (B, T, C)."""
        start = len(self.prefix) if self.prefix else 0
        return decoder.embed(self.model, tokens, tap=self.ranges.tap(HEAD), start=start)

    def block(self, layer: int, hidden: Tensor) -> Tensor:
        """Residual (B, T, C) → residual (B, T, C) through one block.

        Raises:
            ResourceError: the memory of the GPU does not suffice; names the block.
        """
        return _computed_twice(self._block, layer, hidden) if self.recompute else self._block(layer, hidden)

    def body(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) → the residual (B, T, C) behind the last block."""
        hidden = self.embed(tokens)
        for layer in range(self.model.arch.num_layers):
            hidden = self.block(layer, hidden)
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        """The last residual (B, T, C) → logits (B, T, V).

        Raises:
            ResourceError: the memory of the GPU does not suffice.
        """
        with naming(f"the forward pass of {HEAD}"):
            return decoder.head(self._rewritten(HEAD), hidden, tap=self.ranges.tap(HEAD))

    def divergence(self, hidden: Tensor, top: Tensor, tokens: Tensor) -> Tensor:
        """Mean ``objective.top_divergence`` of the logits behind the last residuals (B, T, C); top, tokens (B, T, K).

        All windows share one rewritten head, whose matrix is the largest of a small model. Logits are those of one
        window at a time, and made again for the backward pass.

        Raises:
            ResourceError: the memory of the GPU does not suffice.
        """
        with naming(f"the forward pass of {HEAD}"):
            model = self._rewritten(HEAD)
        windows = zip(hidden, top, tokens, strict=True)
        return torch.stack([self._divergence_of_window(model, *each) for each in windows]).mean()

    def _divergence_of_window(self, model: Model, hidden: Tensor, top: Tensor, tokens: Tensor) -> Tensor:
        def compute(hidden: Tensor) -> Tensor:
            tap = self.ranges.tap(HEAD)  # of its own each time: what one keeps, another pass over it would not find
            with naming(f"the forward pass of {HEAD}"):
                if torch.is_grad_enabled():
                    return compiled_divergence(self.compiler, model, hidden, tap, top, tokens)
                return top_divergence(decoder.head(model, hidden[None], tap=tap)[0], top, tokens)

        return _computed_twice(compute, hidden)

    @torch.no_grad()
    def finished(self, exact: Model) -> Finished:
        """The state of all leaves as tensors, codes and parameters.

        exact: the float model, whose tensors are transformed; the student's own may be rounded, or moved for rounding.
        """
        weights: dict[str, QuantizedWeight] = {}
        for part in self.parts():
            weights |= self.weights.finished({**self.model.tensors, **self._transformed(part)}, part)
        transformed = replace(self, model=exact)._transformed
        tensors = {name: each for part in self.parts() for name, each in transformed(part).items()}
        return Finished(tensors, weights, self.ranges.finished())

    def _block(self, layer: int, hidden: Tensor) -> Tensor:
        part = f"layers.{layer}"
        with naming(f"the forward pass of {part}"):
            model, tap, prefix = self._rewritten(part), self.ranges.tap(part), self._prefix_of(layer)
            if torch.is_grad_enabled():
                return compiled_block(self.compiler, model, layer, hidden, tap, prefix)
            return rounded_block(model, layer, hidden, tap, prefix)

    def _rewritten(self, part: str) -> Model:
        """The model with the tensors of one part as all pieces leave them."""
        changed = self._transformed(part)
        rounded = self.weights.rewrite({**self.model.tensors, **changed}, part)
        return self.model.with_tensors({**changed, **rounded})

    def _transformed(self, part: str) -> Tensors:
        seen, changed = dict(self.model.tensors), dict[str, Tensor]()
        for transform in self.transforms:
            rewritten = transform.rewrite(seen, part)
            seen |= rewritten
            changed |= rewritten
        return changed

    def entries(self, prefix: KVPrefix, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values (G, P, D) of the prefix in one layer as the transforms leave them, not rounded yet."""
        keys, values = prefix.keys[layer], prefix.values[layer]
        for transform in self.transforms:
            keys, values = transform.rewrite_cache(keys, values, f"layers.{layer}")
        return keys, values

    def _prefix_of(self, layer: int) -> KVPrefix | None:
        """The prefix with the entries of one layer as the transforms leave them."""
        return with_entries(self.prefix, layer, *self.entries(self.prefix, layer)) if self.prefix else None


def _computed_twice(compute: Callable[..., Tensor], *given: Any) -> Tensor:
    """What is computed again for the backward pass, where there is one, in place of keeping what it needs."""
    if not torch.is_grad_enabled():
        return compute(*given)
    result: Tensor = checkpoint(compute, *given, use_reentrant=False, preserve_rng_state=False)
    return result
