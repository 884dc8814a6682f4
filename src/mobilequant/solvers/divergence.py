"""Kullback–Leibler divergence of logits from those of the float model, against which many candidates are held."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mobilequant.models.decoder import body, forward, head
from mobilequant.models.quantized import QuantizedModel


@dataclass(frozen=True)
class Reference:
    """What does not change from one candidate to the next: probabilities (T, V) and Σ p·log p (T,)."""

    probabilities: Tensor
    negative_entropy: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> Reference:
        """The reference that these logits (T, V) are."""
        logarithms = logits.log_softmax(-1)
        probabilities = logarithms.exp()
        return cls(probabilities, (probabilities * logarithms).sum(-1))

    def divergence(self, logits: Tensor) -> float:
        """Mean KL to other logits z, in nats per token: Σ p·log p − Σ p·z + log Σ exp z."""
        expected = torch.einsum("tv,tv->t", self.probabilities, logits)
        return (self.negative_entropy - expected + logits.logsumexp(-1)).mean().item()


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
