"""The simplest thing that could be done instead, scored on the same tokens: what a recipe has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mobilequant.evaluate.batch import tokens_at_once
from mobilequant.evaluate.score import score
from mobilequant.jobs.executor import fake_quant_executor, float_executor
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods, step_name
from mobilequant.models.model import Model
from mobilequant.pipeline.checkpoint import InMemory
from mobilequant.pipeline.progress import Track, silent
from mobilequant.pipeline.scheme import Scheme

CALIBRATION_WINDOWS = 8


def score_rounding(
    model: Model,
    schemes: Sequence[Scheme],
    calibration: Tensor,
    scoring: Tensor,
    bos: int | None,
    track: Track = silent,
) -> dict[str, dict[str, Any]]:
    """Scores by scheme name of weights rounded to nearest and min-max ranges: no prefix, no smoothing.

    calibration, scoring: windows (N, T) of tokens, BOS included where the model's tokenizer puts it.
    """
    recipe = [make("ranges", {"estimator": "minmax"}), make("rtn", {})]
    shared = InMemory(frozenset({step_name(0, recipe[0])}))  # ranges are the same for all formats of weights
    executors = {"float": float_executor(model, None, bos)}
    windows = calibration[:CALIBRATION_WINDOWS]
    for scheme in schemes:
        quantized = run_methods(model, scheme, recipe, windows, checkpoint=shared, track=track)
        executors[scheme.name] = fake_quant_executor(quantized, bos)
    batch_tokens = tokens_at_once(model.device, model.arch.vocab_size)
    return score(executors, scoring, bos=bos, batch_tokens=batch_tokens, track=track)
