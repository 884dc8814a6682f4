"""Signal-to-quantization-noise ratio of every activation point, between two models that run side by side.

    sqnr_db = 10 · log10( Σ x² / Σ (x − y)² ),      x: reference, y: quantized, sums over all tokens of all windows

Both models run on their own inputs, so the noise of a point includes what all points before it left: the *accumulated*
error. 20 dB is noise of a tenth of the signal.

The reference must be the *transformed* float model with the same prefix (``QuantizedModel.model`` and ``.prefix``):
smoothing and rotation change the values of a point without changing the function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.models.decoder import Tap

# Runs a model on token ids (T,) and shows every point's real values to the tap. Scores that the mask hides are 0.
Source = Callable[[Tensor, Tap], object]


@dataclass(frozen=True)
class SqnrRow:
    """One activation point. Both models' values are real numbers (dequantized where they were codes)."""

    point: str
    role: str
    layer: int | None  # None outside the blocks
    sqnr_db: float | None  # None: no noise at all
    max_abs: float  # largest magnitude in the reference
    range_low: float  # smallest value of the quantized model …
    range_high: float  # … and its largest: less than max_abs on both sides means that the range clips


@torch.inference_mode()
def sqnr(reference: Source, quantized: Source, windows: Tensor) -> list[SqnrRow]:
    """The table over ``windows`` (N, T), in the order in which the points appear.

    Holds the reference's points of one window in memory, so a few short windows (2 × 128 tokens) serve best. A point
    that only one of the two models shows is left out.

    Raises:
        ValueError: the two models show a point with different shapes.
    """
    noise: dict[str, _Noise] = {}
    for window in windows:
        kept: dict[str, Tensor] = {}
        reference(window, _keeper(kept))
        quantized(window, _comparer(kept, noise))
    return [_row(name, measured) for name, measured in noise.items()]


@dataclass
class _Noise:
    """Running sums of one point."""

    signal: float = 0.0
    noise: float = 0.0
    max_abs: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, x: Tensor, y: Tensor) -> None:
        self.signal += float(x.square().sum(dtype=torch.float64))
        self.noise += float((x - y).square().sum(dtype=torch.float64))
        self.max_abs = max(self.max_abs, float(x.abs().max()))
        self.low, self.high = min(self.low, float(y.min())), max(self.high, float(y.max()))


def _keeper(kept: dict[str, Tensor]) -> Tap:
    def keep(name: str, value: Tensor) -> Tensor:
        kept[name] = value.clone()
        return value

    return keep


def _comparer(kept: dict[str, Tensor], noise: dict[str, _Noise]) -> Tap:
    def compare(name: str, value: Tensor) -> Tensor:
        if name in kept:
            x = kept.pop(name)  # each point is freed as soon as it has been compared
            y = value.to(x.device, x.dtype)
            noise.setdefault(name, _Noise()).add(*_aligned(name, x, y))
        return value

    return compare


def _aligned(name: str, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The reference without the batch dimension of one where the quantized model has none."""
    if x.dim() == y.dim() + 1 and x.shape[0] == 1:
        x = x.squeeze(0)
    if x.shape != y.shape:
        raise ValueError(f"{name}: the reference has {tuple(x.shape)}, the quantized model {tuple(y.shape)}")
    return x, y


def _row(name: str, measured: _Noise) -> SqnrRow:
    return SqnrRow(
        point=name,
        role=point.role_of(name),
        layer=layer_of(name),
        sqnr_db=decibel(measured.signal, measured.noise),
        max_abs=measured.max_abs,
        range_low=measured.low,
        range_high=measured.high,
    )


def layer_of(name: str) -> int | None:
    """The block that a point lies in: 3 for "layers.3.down", None for "logits"."""
    first, *rest = name.split(".")
    return int(rest[0]) if first == "layers" else None


def decibel(signal: float, noise: float) -> float | None:
    """10·log10(signal / noise); None without noise, and −200 dB where there is noise but no signal."""
    if noise == 0.0:
        return None
    return 10.0 * math.log10(max(signal / noise, 1e-20))
