"""What training makes small."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean (found − wanted)², as OmniQuant and MobileQuant use it (arXiv 2308.13137, eq. 1; 2408.13933, §4.2)."""
    return (found - wanted).square().mean()


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """|found − wanted|² / |wanted|² of each token (…, T, C), on average: no token counts for its magnitude."""
    squares = (found - wanted).square().sum(-1)
    return (squares / wanted.square().sum(-1).clamp_min(1e-12)).mean()


def top_divergence(logits: Tensor, top: Tensor, tokens: Tensor) -> Tensor:
    """Mean KL(teacher ‖ student) in nats with all tokens but the teacher's likeliest K taken as one.

    logits (…, V) of the student; top, tokens (…, K): the teacher's log-probabilities and which tokens they belong to.
    Never more than the whole divergence, and equal to it when the rest differs by a common factor only (the idea of
    OSTQuant's KL-Top, arXiv 2501.13987, §3.3, with the mass of the rest kept).
    """
    found = logits.gather(-1, tokens) - logits.logsumexp(-1, keepdim=True)
    rest, found_rest = _rest(top), _rest(found)
    inside = (top.exp() * (top - found)).sum(-1)
    return (inside + rest.exp() * (rest - found_rest)).mean()


def _rest(logarithms: Tensor) -> Tensor:
    """log(1 − Σ exp) over the last dimension; the mass that is left is never taken below 1e-6."""
    return torch.log((1 - logarithms.exp().sum(-1)).clamp_min(1e-6))
