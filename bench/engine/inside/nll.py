"""How surprised a model is: the same sum for every runtime that is called from Python."""

from __future__ import annotations

import numpy as np


def nll(logits: np.ndarray, targets: np.ndarray) -> float:
    """Sum of −log softmax(logits)[target] in nats; logits (T, V), targets (T,)."""
    wide = logits.astype(np.float64)
    top = wide.max(-1)
    total = np.log(np.exp(wide - top[:, None]).sum(-1)) + top
    return float((total - wide[np.arange(len(targets)), targets]).sum())
