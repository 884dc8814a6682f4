"""Learned rotations of the residual stream (R1) and of the values of each head (R2), as SpinQuant learns them
(arXiv 2405.16406, §3.2), on top of what is folded already.

    Q = e^S,    S = (A − Aᵀ) / 2√n        one leaf A (n, n) per matrix, zero at first: Q = I

SpinQuant keeps Q as its variable and steps along the manifold of orthogonal matrices (Cayley SGD, arXiv 2002.01113).
Here the variable is free and Q is orthogonal by construction, so that any optimizer will do. An update of A by r in
every entry turns every vector by about r radians, whatever n is.

Tables stay as they are: ``TurnedStream`` turns what is looked up in them, and turns back what lm_head reads, since a
matrix of a vocabulary is dearer to rotate than the tokens of a batch. Both always have 8 bits; their rounding is not
part of what is learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.arch.point import HEAD
from mobilequant.models.decoder import Tap
from mobilequant.numerics.qparams import QParams
from mobilequant.solvers.learned.piece import Tensors, leaf
from mobilequant.solvers.student import Ranges
from mobilequant.transforms.orthogonal import rotation_of

TURN = "turn"  # the kind of leaf


class Rotations:
    """R1 for all layers, where ``residual``, and R2 for each key/value head, where ``heads``.

    All parts of one forward pass share one R1: ``turn_stream`` makes it, in front of the first block.
    """

    def __init__(self, arch: Architecture, device: torch.device, *, residual: bool, heads: bool) -> None:
        self._arch = arch
        width, head = (arch.hidden_size, arch.hidden_size), (arch.num_kv_heads, arch.head_dim, arch.head_dim)
        self._residual = leaf(torch.zeros(width, device=device)) if residual else None
        layers = range(arch.num_layers if heads else 0)
        self._heads = {f"layers.{layer}": leaf(torch.zeros(head, device=device)) for layer in layers}
        self._stream = torch.eye(arch.hidden_size, device=device)

    def parameters(self, part: str) -> Tensors:
        """One leaf per block for its heads; that of the residual counts to the head of the model."""
        if part == HEAD:
            return {} if self._residual is None else {f"residual.{TURN}": self._residual}
        return {f"{part}.v.{TURN}": self._heads[part]} if part in self._heads else {}

    def turn_stream(self, hidden: Tensor) -> Tensor:
        """The residual (…, C) that the tables give, in the basis of the blocks."""
        if self._residual is None:
            return hidden
        self._stream = rotation_of(_skew(self._residual)).to(hidden)
        return hidden @ self._stream

    def turn_back(self, hidden: Tensor) -> Tensor:
        """What lm_head reads, (…, C), in the basis of the tables."""
        return hidden if self._residual is None else hidden @ self._stream.mT

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """The linears of a block; lm_head stays in the basis of the tables."""
        if part == HEAD:
            return {}
        layer = point.layer_of(part)
        turned = {} if self._residual is None else self._in_stream(tensors, layer)
        return turned if part not in self._heads else turned | self._of_values({**tensors, **turned}, layer)

    def rewrite_cache(self, keys: Tensor, values: Tensor, part: str) -> tuple[Tensor, Tensor]:
        """Values (G, P, D) in the basis of their heads."""
        if part not in self._heads:
            return keys, values
        return keys, values @ self._head(part, values).mT

    @torch.no_grad()
    def finished(self) -> tuple[Tensor | None, dict[int, Tensor]]:
        """Q (C, C) and, by layer, the M (G, D, D), float64 and orthogonal to its last digits."""
        heads = {point.layer_of(part): _exact(each) for part, each in self._heads.items()}
        return None if self._residual is None else _exact(self._residual), heads

    def _in_stream(self, tensors: Mapping[str, Tensor], layer: int) -> Tensors:
        """h → Qᵀh for readers W·Q and writers Qᵀ·W, Qᵀ·b, as ``transforms.rotation.residual_in_basis``, in float32."""
        changed = {}
        for role in point.linear_roles(self._arch):
            name, writes = point.at(layer, role), role in ("o", "down")
            weight, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
            changed[f"{name}.weight"] = self._stream.mT @ weight if writes else weight @ self._stream
            if writes and bias is not None:
                changed[f"{name}.bias"] = bias @ self._stream
        return changed

    def _of_values(self, tensors: Mapping[str, Tensor], layer: int) -> Tensors:
        """v → Mv, as ``transforms.rotation.values_in_basis``, in float32 and with Mᵀ for the inverse."""
        v, o, arch = point.at(layer, "v"), point.at(layer, "o.weight"), self._arch
        matrices = self._head(f"layers.{layer}", tensors[o])
        changed = {}
        for name in (f"{v}.weight", f"{v}.bias"):
            if name in tensors:
                heads = tensors[name].reshape(arch.num_kv_heads, arch.head_dim, -1)
                changed[name] = (matrices @ heads).reshape(tensors[name].shape)
        heads = tensors[o].unflatten(1, (arch.num_kv_heads, arch.queries_per_kv, arch.head_dim))
        return changed | {o: torch.einsum("cgqd,ged->cgqe", heads, matrices).flatten(1)}

    def _head(self, part: str, like: Tensor) -> Tensor:
        return rotation_of(_skew(self._heads[part])).to(like)


class TurnedStream:
    """Ranges of a model whose blocks compute in the basis of ``rotations`` and whose tables do not."""

    def __init__(self, ranges: Ranges, rotations: Rotations) -> None:
        self._ranges, self._rotations = ranges, rotations

    def tap(self, part: str) -> Tap:
        """What gives the readers of a point of this part its value, each in the basis in which it computes."""
        inner = self._ranges.tap(part)

        def tapped(name: str, value: Tensor) -> Tensor:
            if name == point.EMBED:
                return inner(name, self._rotations.turn_stream(value))
            found = inner(name, value)
            return self._rotations.turn_back(found) if name == point.FINAL_NORM else found

        return inner if part != HEAD else tapped

    def parameters(self, part: str) -> Tensors:
        """Those of the ranges."""
        return self._ranges.parameters(part)

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """What the ranges rewrite."""
        return self._ranges.rewrite(tensors, part)

    def finished(self) -> dict[str, QParams]:
        """Those of the ranges."""
        return self._ranges.finished()


def _skew(free: Tensor) -> Tensor:
    exact = free.double()
    return (exact - exact.mT) / (2 * math.sqrt(free.shape[-1]))


def _exact(free: Tensor) -> Tensor:
    found: Tensor = torch.linalg.matrix_exp(_skew(free))
    return found
