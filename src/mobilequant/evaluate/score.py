"""Perplexity, and distance to the float model: every executor reads the same window before the next one comes.

So the KL divergence needs no stored logits: at any time the reference's logits of one window and those of one other
executor are in memory, and their softmaxes only a few rows at a time. See ``evaluate.protocol`` for what is predicted.

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
from mobilequant.pipeline.memory import return_freed_memory
from mobilequant.pipeline.progress import Track, silent

# Token ids (T,) → logits (T, V) float32. Only the last rows are read, so that an executor whose KV prefix already
# holds BOS may drop the BOS that it is given.
Executor = Callable[[Tensor], Tensor]

REFERENCE = "float"

# Logits handled at once: bounds the temporary memory at about 100 MB whatever the vocabulary.
_CHUNK_ELEMENTS = 1 << 22


def score(
    executors: Mapping[str, Executor], windows: Tensor, *, bos: int | None, track: Track = silent
) -> dict[str, dict[str, float]]:
    """Scores of every executor on ``windows`` (N, T) of token ids.

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
    for window in track(windows, "scoring", len(windows)):
        _score_window(executors, window, bos, sums)
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
def _score_window(
    executors: Mapping[str, Executor], window: Tensor, bos: int | None, sums: Mapping[str, WindowSums]
) -> None:
    tokens, targets = window[:-1], window[1:]
    if bos is not None:
        tokens = torch.cat((tokens.new_tensor([bos]), tokens))
    reference = executors[REFERENCE](tokens)[-len(targets) :]
    for name, executor in executors.items():
        logits = reference if name == REFERENCE else executor(tokens)[-len(targets) :]
        nll, kl, agreed = compare(name, reference, logits, targets)
        sums[name].predictions = len(targets)
        sums[name].nll.append(float(nll.sum()))
        sums[name].kl.append(float(kl.sum()))
        sums[name].agreed.append(float(agreed.sum()))


def compare(
    name: str, reference: Tensor, logits: Tensor, targets: Tensor, *, chunk_elements: int = _CHUNK_ELEMENTS
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
    log_p = log_q if logits is reference else reference.to(logits.device).float().log_softmax(-1)
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
