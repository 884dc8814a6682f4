"""Kullback–Leibler divergence of logits from those of the float model, against which many candidates are held."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mobilequant.models.decoder import body, forward, head
from mobilequant.models.quantized import QuantizedModel

_ROWS = 64  # at once, to bound memory


@dataclass(frozen=True)
class Reference:
    """What does not change from one candidate to the next: logarithms of probabilities (T, V)."""

    log_probabilities: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> Reference:
        """The reference that these logits (T, V) are."""
        return cls(logits.log_softmax(-1))

    def divergence(self, logits: Tensor) -> float:
        """Mean KL to other logits (T, V), in nats per token: Σ p·(log p − log q).

        Σ p·log p − Σ p·log q, two large sums, would be off by 10^−3 in float32: more than most points cost.
        """
        total = 0.0
        for log_p, part in zip(self.log_probabilities.split(_ROWS), logits.split(_ROWS), strict=True):
            terms = (log_p - part.log_softmax(-1)).mul_(log_p.exp())
            total += terms.sum(-1, dtype=torch.float64).sum().item()
        return total / len(logits)


class HeldOut:
    """Windows (N, T) on which whole candidates are compared with the float model, whose last residuals are kept."""

    @torch.inference_mode()
    def __init__(self, quantized: QuantizedModel, windows: Tensor) -> None:
        self._model, self._windows = quantized.model, windows
        self._residuals = [body(self._model, window[None], prefix=quantized.prefix) for window in windows]

    @torch.inference_mode()
    def divergence(self, candidate: QuantizedModel) -> float:
        """Mean KL(float ‖ float weights with every activation rounded as in the candidate), nats per token."""
        tap, prefix, total = candidate.tap(), candidate.simulated_prefix(), 0.0
        for window, residual in zip(self._windows, self._residuals, strict=True):
            reference = Reference.of(head(self._model, residual)[0])
            total += reference.divergence(forward(self._model, window[None], tap=tap, prefix=prefix)[0])
        return total / len(self._windows)
