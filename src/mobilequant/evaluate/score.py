"""Perplexity, and distance to the float model: every executor reads the same windows before the next ones come.

So the KL divergence needs no stored logits: at any time the reference's logits of one batch and those of one other
executor are in memory, and their softmaxes only a few rows at a time. Sums are taken window by window, so that they do
not depend on what else is in a batch. See ``evaluate.protocol`` for what is predicted.

    nll    mean of −log q(token), in nats; summed in float64                ppl = exp(nll)
    kl     mean of KL(p ‖ q) = Σ p·(log p − log q), in nats, p = float      top1 = share of equal argmax

Standard errors treat windows, not tokens, as the independent samples: tokens of one window share their context.
``ppl_ratio`` is ppl / ppl of float; its error comes from paired differences and is far smaller than that of ppl.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mobilequant.errors import CheckpointError
from mobilequant.evaluate.batch import batch_size
from mobilequant.pipeline.memory import return_freed_memory
from mobilequant.pipeline.progress import Track, silent

# Token ids (B, T) → logits (B, T, V) float32. Only the last rows are read, so that an executor whose KV prefix already
# holds BOS may drop the BOS that it is given.
Executor = Callable[[Tensor], Tensor]

REFERENCE = "float"

# Logits handled at once: bounds the temporary memory at about 100 MB whatever the vocabulary.
CHUNK_ELEMENTS = 1 << 22


def score(
    executors: Mapping[str, Executor],
    windows: Tensor,
    *,
    bos: int | None,
    batch_tokens: int = 1,
    track: Track = silent,
) -> dict[str, dict[str, float]]:
    """Scores of every executor on ``windows`` (N, T) of token ids, in batches of ``batch_tokens`` (``evaluate.batch``).

    Returns:
        Per executor: ppl, nll, kl, top1, ppl_ratio, windows, predictions; and for N ≥ 2 the standard errors
        nll_se, ppl_se, kl_se, top1_se, ppl_ratio_se.

    Raises:
        CheckpointError: an executor produced NaN or infinite logits.
        ValueError: no executor is called "float", or there is nothing to predict.
    """
    if REFERENCE not in executors:
        raise ValueError(f"one executor must be called {REFERENCE!r}, got {sorted(executors)}")
    if windows.dim() != 2 or windows.shape[0] < 1 or windows.shape[1] < 2:
        raise ValueError(f"windows must be (N ≥ 1, T ≥ 2), got {tuple(windows.shape)}")
    sums = {name: WindowSums() for name in executors}
    batches = windows.split(batch_size(windows.shape[1], batch_tokens))
    for batch in track(batches, "scoring", len(batches)):
        _score_batch(executors, batch, bos, sums)
        return_freed_memory()
    return {name: summary(sums[name], sums[REFERENCE]) for name in executors}


@dataclass
class WindowSums:
    """Sums over the predictions of each window, one entry per window."""

    predictions: int = 0  # per window
    nll: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    agreed: list[float] = field(default_factory=list)


@torch.inference_mode()
def _score_batch(
    executors: Mapping[str, Executor], windows: Tensor, bos: int | None, sums: Mapping[str, WindowSums]
) -> None:
    tokens, targets = windows[:, :-1], windows[:, 1:]
    if bos is not None:
        tokens = torch.cat((torch.full_like(tokens[:, :1], bos), tokens), dim=1)
    reference = executors[REFERENCE](tokens)[:, -targets.shape[1] :]
    for name, executor in executors.items():
        logits = reference if name == REFERENCE else executor(tokens)[:, -targets.shape[1] :]
        _add(sums[name], name, reference, logits, targets)
        del logits  # before the next executor makes its own


def _add(sums: WindowSums, name: str, reference: Tensor, logits: Tensor, targets: Tensor) -> None:
    sums.predictions = targets.shape[1]
    for window in zip(reference, logits, targets, strict=True):
        nll, kl, agreed = compare(name, *window)
        sums.nll.append(float(nll.sum()))
        sums.kl.append(float(kl.sum()))
        sums.agreed.append(float(agreed.sum()))


def compare(
    name: str, reference: Tensor, logits: Tensor, targets: Tensor, *, chunk_elements: int = CHUNK_ELEMENTS
) -> tuple[Tensor, Tensor, Tensor]:
    """Per prediction: −log q(target), KL(p ‖ q), and whether both prefer the same token; each (T,) float64.

    ``reference`` and ``logits`` are (T, V), ``targets`` (T,); ``chunk_elements`` bounds memory and changes no result.
    """
    if logits.shape != reference.shape:
        raise ValueError(f"{name} gave logits {tuple(logits.shape)}, float gave {tuple(reference.shape)}")
    rows = max(1, chunk_elements // logits.shape[1])
    pieces = [
        _compare_rows(name, p, q, target)
        for p, q, target in zip(reference.split(rows), logits.split(rows), targets.split(rows), strict=True)
    ]
    nll, kl, agreed = (torch.cat(column) for column in zip(*pieces, strict=True))
    return nll, kl, agreed


def _compare_rows(name: str, reference: Tensor, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    log_q = logits.float().log_softmax(-1)
    log_p = reference.to(logits.device).float().log_softmax(-1)
    nll = -log_q.gather(1, targets.to(logits.device)[:, None])[:, 0]
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    if not bool((nll + kl).isfinite().all()):
        raise CheckpointError(
            f"{name} produced logits that are NaN or infinite",
            "Check the checkpoint's tensors and the ranges it was quantized with; the score would be meaningless.",
        )
    agreed = logits.argmax(-1) == reference.to(logits.device).argmax(-1)
    return nll.double().cpu(), kl.double().cpu(), agreed.double().cpu()


def summary(sums: WindowSums, reference: WindowSums) -> dict[str, float]:
    """Means over all predictions, with standard errors over windows where there are at least two."""
    per_window = sums.predictions
    nll, nll_se = _mean(sums.nll, per_window)
    kl, kl_se = _mean(sums.kl, per_window)
    top1, top1_se = _mean(sums.agreed, per_window)
    pairs = zip(sums.nll, reference.nll, strict=True)
    difference, difference_se = _mean([own - other for own, other in pairs], per_window)
    ppl, ratio = _exp(nll), _exp(difference)
    means = {"ppl": ppl, "nll": nll, "kl": kl, "top1": top1, "ppl_ratio": ratio}
    counts = {"windows": len(sums.nll), "predictions": len(sums.nll) * per_window}
    if len(sums.nll) < 2:
        return {**means, **counts}
    errors = {
        "ppl_se": ppl * nll_se,  # delta method
        "nll_se": nll_se,
        "kl_se": kl_se,
        "top1_se": top1_se,
        "ppl_ratio_se": ratio * difference_se,
    }
    return {**means, **errors, **counts}


def _mean(window_sums: list[float], per_window: int) -> tuple[float, float]:
    """Mean per prediction and its standard error over windows (0 for a single window)."""
    means = torch.tensor(window_sums, dtype=torch.float64) / per_window
    error = float(means.std() / math.sqrt(len(means))) if len(means) > 1 else 0.0
    return float(means.mean()), error


def _exp(value: float) -> float:
    """exp, but the largest float instead of an overflow: JSON has no infinity."""
    return math.exp(value) if value < math.log(sys.float_info.max) else sys.float_info.max
