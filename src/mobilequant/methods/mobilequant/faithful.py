"""The schedule of the paper (arXiv 2408.13933, §5.1 and its released settings for Llama models)."""

from __future__ import annotations

from mobilequant.arch.pair import Kind
from mobilequant.solvers.trainer import Rate, Schedule

# v to o and q to k are on only where heads are not shared, and then q to k does not preserve the function under RoPE.
PUBLISHED_PAIRS: tuple[Kind, ...] = ("norm_to_qkv", "norm_to_mlp", "up_to_down")


def published_schedule(epochs: int, num_bits: int, *, symmetric: bool) -> Schedule:
    """One window at a time, no clipping of gradients, no warm-up, no held-out text: the last state stays."""
    clip = Rate(1e-3, 1e-4) if num_bits == 4 and symmetric else Rate(1e-2, 1e-3)
    ranges = Rate(1e-6, 1e-7)
    rates = {"free_scale": Rate(1e-3, 1e-4), "high": clip, "low": clip, "scale": ranges, "offset": ranges}
    return Schedule(epochs, batch=1, rates=rates, clip=None)
