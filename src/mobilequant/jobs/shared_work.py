"""Which steps two runs on the same model have in common, so that the second need not do them again (ADR 0010)."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import torch

from mobilequant.methods.run import step_name

if TYPE_CHECKING:
    from mobilequant.jobs.quantize import Job
    from mobilequant.pipeline.method import Method


def shared_steps(earlier: Job, later: Job) -> frozenset[str]:
    """Steps with the same outcome in both: the methods with which both recipes begin, up to the first that rounds."""
    if not _start_alike(earlier, later):
        return frozenset()
    pairs = zip(earlier.methods, later.methods, strict=False)
    alike = takewhile(lambda pair: _same_for_all_weights(*pair), pairs)
    return frozenset(step_name(number, method) for number, (_, method) in enumerate(alike))


def _start_alike(earlier: Job, later: Job) -> bool:
    """Whether both see the same model, windows, prefix, seed and formats of activations."""
    one, other = earlier.recipe, later.recipe
    return (
        (one.prefix, one.seed) == (other.prefix, other.seed)
        and one.base_scheme().rounds_activations_like(other.base_scheme())
        and earlier.windows.device == later.windows.device
        and torch.equal(earlier.windows, later.windows)
        and earlier.model_sha256 == later.model_sha256
    )


def _same_for_all_weights(one: Method, other: Method) -> bool:
    return not one.rounds and (one.name, one.config) == (other.name, other.config)
