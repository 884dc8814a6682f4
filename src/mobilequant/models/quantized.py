"""A quantized model before lowering: what the methods leave and what fake-quant simulation and lowering read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.models.decoder import Tap
from mobilequant.models.model import KVPrefix, Model
from mobilequant.numerics.placement import on_device
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.pipeline.scheme import Scheme


@dataclass(frozen=True)
class QuantizedModel:
    """The transformed float model, integer codes of every weight matrix, and parameters of every activation.

    ``weights`` holds every name of ``Model.linears()`` and ``Model.tables()``; a tied head shares one object.
    ``activations`` holds every name of ``point.all_points`` (those of ``probs`` are fixed: 1/256, zero point 0).
    """

    model: Model
    scheme: Scheme
    weights: Mapping[str, QuantizedWeight]
    activations: Mapping[str, QParams]
    prefix: KVPrefix | None = None

    def to(self, device: str | torch.device) -> QuantizedModel:
        """A copy on another device; a matrix under two names (a tied head) stays one object."""
        return replace(
            self,
            model=self.model.to(device=device),
            weights=on_device(self.weights, device),
            prefix=self.prefix.to(device) if self.prefix else None,
        )

    def simulated(self) -> Model:
        """The float model that computes with the dequantized weights."""
        dtype = self.model.tensors["embed.weight"].dtype
        changed = {f"{name}.weight": w.dequantize().to(dtype) for name, w in self.weights.items()}
        if self.model.arch.tied_head:
            changed["lm_head.weight"] = changed["embed.weight"]
        return self.model.with_tensors(changed)

    def simulated_prefix(self) -> KVPrefix | None:
        """The prefix as the 8-bit cache holds it."""
        if self.prefix is None:
            return None
        arch = self.model.arch
        keys = [
            fake_quantize(key, self.activations[point.key_point(arch, layer)])
            for layer, key in enumerate(self.prefix.keys)
        ]
        values = [
            fake_quantize(value, self.activations[point.at(layer, "v")])
            for layer, value in enumerate(self.prefix.values)
        ]
        return KVPrefix(self.prefix.tokens, tuple(keys), tuple(values))

    def tap(self) -> Tap:
        """The tap that rounds every activation to its codes and back."""

        def rounding(name: str, value: Tensor) -> Tensor:
            qparams = self.activations.get(name)
            return value if qparams is None else fake_quantize(value, qparams)

        return rounding


def quantize(value: Tensor, qparams: QParams) -> Tensor:
    """Codes of a real tensor, as int32: round half up (as the integer graph does), shift, saturate."""
    return _codes(value, qparams).to(torch.int32)


def fake_quantize(value: Tensor, qparams: QParams) -> Tensor:
    """Quantize and dequantize, in floating point."""
    return (_codes(value, qparams) - qparams.zero_point) * qparams.scale


def _codes(value: Tensor, qparams: QParams) -> Tensor:
    codes = torch.floor(value / qparams.scale + 0.5) + qparams.zero_point
    return codes.clamp_(qparams.qtype.qmin, qparams.qtype.qmax)
