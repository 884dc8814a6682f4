"""What the float model says about the training windows, worked out once: the targets of distillation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mobilequant.models import decoder
from mobilequant.models.model import KVPrefix, Model
from mobilequant.pipeline.progress import Track, silent


@dataclass(frozen=True)
class Targets:
    """Of windows (N, T): hidden (N, T, C), the residual behind the last block; top (N, T, K), the log-probabilities of
    the K likeliest next tokens; tokens (N, T, K), which they are."""

    hidden: Tensor
    top: Tensor
    tokens: Tensor


@torch.no_grad()
def ask_teacher(
    model: Model, windows: Tensor, prefix: KVPrefix | None, *, num_top: int, batch: int, track: Track = silent
) -> Targets:
    """Targets of windows (N, T), ``batch`` windows at a time; their logits, which are large, one at a time."""
    hidden, top, tokens = [], [], []
    batches = windows.split(batch)
    for part in track(batches, "teacher", len(batches)):
        residuals = decoder.body(model, part, prefix=prefix)
        hidden.append(residuals)
        for residual in residuals:
            values, indices = decoder.head(model, residual[None])[0].log_softmax(-1).topk(num_top, dim=-1)
            top.append(values)
            tokens.append(indices)
    return Targets(torch.cat(hidden), torch.stack(top), torch.stack(tokens))
