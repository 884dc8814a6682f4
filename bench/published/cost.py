"""How long rows will take, before any has been made."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mobilequant.models.model import Model
from published.make import Windows
from published.row import Row

# Useful operations a second: a step of SmolLM2 takes about 0.1 s on an H100 for 2048 tokens; a thread of a CPU.
_GPU_SPEED, _THREAD_SPEED = 1.3e13, 2e10
_CAPTURE_SECONDS = 5.0  # on a GPU, before the first step of a training
_OBSERVED = 3  # what an observed pass costs over a plain one


def seconds(row: Row, model: Model, windows: Windows) -> float:
    """Training and scoring."""
    body, head = _parameters(model)
    on_gpu = windows.scored.is_cuda
    training = 6 * body * row.steps * windows.training.shape[1]
    scoring = 2 * (body + head) * windows.scored.numel()
    return (training + scoring) / _speed(on_gpu) + (_CAPTURE_SECONDS if on_gpu and row.trained else 0.0)


def shared_seconds(rows: Sequence[Row], model: Model, windows: Windows) -> float:
    """Magnitudes, the ranges of each start, float residuals of the training windows."""
    starts = {row.pairs for row in rows if row.objective != "float"}
    tokens = _OBSERVED * (len(starts) + any(starts)) * windows.ranges.numel()
    tokens += windows.training.numel() if any(row.trained for row in rows) else 0
    return 2 * _parameters(model)[0] * tokens / _speed(windows.scored.is_cuda)


def _speed(on_gpu: bool) -> float:
    return _GPU_SPEED if on_gpu else _THREAD_SPEED * torch.get_num_threads()


def _parameters(model: Model) -> tuple[int, int]:
    """Of the blocks, and of lm_head."""
    body = sum(each.numel() for name, each in model.tensors.items() if name.startswith("layers."))
    return body, model.weight("lm_head").numel()
