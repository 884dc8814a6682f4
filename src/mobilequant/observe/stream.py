"""Block by block: the residuals of all windows wait in front of one block, are observed, and move on.

This is the pass of methods whose statistics must come from already quantized blocks (``inputs = "quantized"``). Of
several processes each carries its share of the windows; statistics are those of all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.models import decoder
from mobilequant.models.decoder import Tap
from mobilequant.models.model import KVPrefix, Model
from mobilequant.models.out_of_memory import OF_PASSES, naming
from mobilequant.observe.collect import Observer
from mobilequant.pipeline import parallel
from mobilequant.pipeline.method import Need

Residuals = list[Tensor]  # one (1, T, C) per window


@torch.inference_mode()
def enter(model: Model, windows: Tensor, *, tap: Tap, start: int = 0) -> Residuals:
    """The residuals in front of the first block, of this process's share of windows (N, T) whose first token stands at
    ``start``."""
    return [decoder.embed(model, window[None], tap=tap, start=start) for window in parallel.share(windows)]


@torch.inference_mode()
def advance(model: Model, layer: int, residuals: Residuals, *, tap: Tap, prefix: KVPrefix | None) -> Residuals:
    """The residuals behind a block.

    Raises:
        ResourceError: the memory of the GPU does not suffice; names the block.
    """
    with naming(f"the pass through layers.{layer}", OF_PASSES):
        return [decoder.block(model, layer, hidden, tap=tap, prefix=prefix) for hidden in residuals]


@torch.inference_mode()
def observe_block(
    model: Model, layer: int, residuals: Residuals, needs: Iterable[Need], *, tap: Tap, prefix: KVPrefix | None
) -> dict[Need, Any]:
    """Statistics of the points of one block, seen behind ``tap``.

    Raises:
        ResourceError: the memory of the GPU does not suffice; names the block.
    """
    start = point.at(layer, "")
    observer = Observer(model, (need for need in needs if need.point.startswith(start)), tap=tap)
    with naming(f"the pass through layers.{layer}", OF_PASSES):
        for hidden in residuals:
            decoder.block(model, layer, hidden, tap=observer, prefix=prefix)
    return observer.merged_results()


@torch.inference_mode()
def observe_head(model: Model, residuals: Residuals, needs: Iterable[Need], *, tap: Tap) -> dict[Need, Any]:
    """Statistics of the points behind the last block."""
    points = (point.FINAL_NORM, point.LOGITS, point.CAPPED_LOGITS)
    wanted = [need for need in needs if need.point in points]
    if not wanted:
        return {}  # lm_head is the dearest matrix of a small model
    observer = Observer(model, wanted, tap=tap)
    for hidden in residuals:
        decoder.head(model, hidden, tap=observer)
    return observer.merged_results()
