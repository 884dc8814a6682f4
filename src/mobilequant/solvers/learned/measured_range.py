"""Ranges that are measured in each batch: for training what will have its static ranges found behind it.

    scale = (highest − lowest) / 255        gradients pass into both extremes

So what is trained learns at once to keep its values together: an extreme that comes down makes all steps finer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mobilequant.models.decoder import Tap
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import UINT8
from mobilequant.solvers.learned.activation_range import as_tensors
from mobilequant.solvers.learned.piece import Tensors
from mobilequant.solvers.straight_through import fake_quantize

_SMALLEST = 1e-8  # of a scale, as where ranges are static


class MeasuredRanges:
    """Points of 8 bits. ``known``: those whose parameters follow from what they are; ``centred``: those whose zero
    point is the middle of the codes."""

    def __init__(
        self, points: Iterable[str], device: torch.device, known: Mapping[str, QParams], centred: Iterable[str]
    ) -> None:
        self._points, self._centred = frozenset(points), frozenset(centred)
        self._known = {name: as_tensors(each, device) for name, each in known.items()}
        self._middle = torch.tensor(float(UINT8.qmax + 1) / 2, device=device)

    def parameters(self, part: str) -> Tensors:
        """None: nothing about them is learned."""
        return {}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """Nothing: activations are rounded by the tap."""
        return {}

    def tap(self, part: str) -> Tap:
        """What gives the readers of a point its value, rounded in a range that just covers it."""

        def tapped(name: str, value: Tensor) -> Tensor:
            if name not in self._points:
                return value
            scale, zero_point = self._known.get(name) or self._measured(value, name in self._centred)
            return fake_quantize(value, scale, zero_point, UINT8.qmin, UINT8.qmax)

        return tapped

    def finished(self) -> dict[str, QParams]:
        """None: the next batch would have others."""
        return {}

    def _measured(self, value: Tensor, centred: bool) -> tuple[Tensor, Tensor]:
        low, high = value.amin().float().clamp_max(0.0), value.amax().float().clamp_min(0.0)
        if centred:
            bound = torch.maximum(-low, high)
            return (bound / (UINT8.qmax - self._middle)).clamp_min(_SMALLEST), self._middle
        scale = ((high - low) / (UINT8.qmax - UINT8.qmin)).clamp_min(_SMALLEST)
        return scale, (-low / scale).detach().round()
