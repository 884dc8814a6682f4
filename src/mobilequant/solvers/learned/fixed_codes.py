"""Finished codes whose row scales may still move: the cheapest thing to train behind GPTQ (EfficientQAT's E2E-QP,
arXiv 2407.11062, §3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.point import part_of
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.solvers.learned.piece import Tensors, leaf


class FixedCodes:
    """weight[o, i] = codes[o, i] · scale[o] · exp(leaf[o]); group multipliers stay."""

    def __init__(self, weights: Mapping[str, QuantizedWeight], *, learn_scales: bool = True) -> None:
        self._weights, self._learned = dict(weights), learn_scales
        self._leaves = {name: leaf(torch.zeros_like(weight.scale)) for name, weight in weights.items()}

    def parameters(self, part: str) -> Tensors:
        """One leaf per matrix, or none where the scales stay too."""
        if not self._learned:
            return {}
        return {f"{name}.row_scale": self._leaves[name] for name in self._weights if part_of(name) == part}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """The matrices of a part as they were, and the factors of their rows apart."""
        names = [name for name in self._weights if part_of(name) == part]
        matrices = {f"{name}.weight": self._weights[name].dequantize() for name in names}
        return matrices | {f"{name}.{point.OUTPUT_FACTOR}": self._leaves[name].exp() for name in names}

    @torch.no_grad()
    def finished(self, tensors: Mapping[str, Tensor], part: str) -> dict[str, QuantizedWeight]:
        """The same codes with the learned scales."""
        return {
            name: replace(weight, scale=weight.scale * self._leaves[name].exp())
            for name, weight in self._weights.items()
            if part_of(name) == part
        }
