"""Gains and biases as leaves: what quantization-aware tuning moves beside the matrices.

gain · exp(a)        bias + step · b        with the step of the activation that the bias is added to
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mobilequant.arch.point import part_of
from mobilequant.models.model import Model
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import INT16
from mobilequant.solvers.learned.piece import Tensors, leaf

_WIDE_STEPS = 256.0  # steps of 16 bits that count as one


class VectorTuning:
    """All gains of norms, and the biases of the linears inside blocks, new ones where a family has none."""

    def __init__(self, model: Model, qparams: Mapping[str, QParams]) -> None:
        norms = [name.removesuffix(".weight") for name in model.tensors if name.endswith("norm.weight")]
        self._gains = {norm: leaf(torch.zeros_like(model.weight(norm))) for norm in norms}
        linears = [name for name in model.linears() if name.startswith("layers.")]
        self._shifts = {name: leaf(model.weight(name).new_zeros(len(model.weight(name)))) for name in linears}
        self._steps = {name: _step(qparams[name]) for name in linears}

    def parameters(self, part: str) -> Tensors:
        """One leaf per norm and per linear."""
        gains = {f"{name}.gain": each for name, each in self._gains.items() if part_of(name) == part}
        return gains | {f"{name}.shift": each for name, each in self._shifts.items() if part_of(name) == part}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """The tuned vectors of a part."""
        changed = {}
        for norm, gain in self._gains.items():
            if part_of(norm) == part:
                changed[f"{norm}.weight"] = tensors[f"{norm}.weight"] * gain.exp()
        for name, shift in self._shifts.items():
            if part_of(name) == part:
                bias = tensors.get(f"{name}.bias")
                moved = self._steps[name] * shift
                changed[f"{name}.bias"] = moved if bias is None else bias + moved
        return changed

    def rewrite_cache(self, keys: Tensor, values: Tensor, part: str) -> tuple[Tensor, Tensor]:
        """The entries as they are: they are constants, not outputs of the tuned projections."""
        return keys, values


def _step(qparams: QParams) -> float:
    return qparams.scale * (_WIDE_STEPS if qparams.qtype == INT16 else 1.0)
