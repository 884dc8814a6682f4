"""Which steps two runs on the same model have in common, so that the second need not do them again (ADR 0010)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import TYPE_CHECKING

import torch

from mobilequant.methods.run import step_name

if TYPE_CHECKING:
    from mobilequant.jobs.quantize import Job
    from mobilequant.pipeline.method import Method


def shared_steps(earlier: Job, later: Job) -> frozenset[str]:
    """Steps with the same outcome in both: the methods with which both recipes begin, up to the first that rounds, or
    to the first that differs where both also round alike and train on the same."""
    if not _start_alike(earlier, later):
        return frozenset()
    alike = _same if _round_alike(earlier, later) else _same_for_all_weights
    pairs = takewhile(lambda pair: alike(*pair), zip(earlier.methods, later.methods, strict=False))
    return frozenset(step_name(number, method) for number, (_, method) in enumerate(pairs))


def nearest(earlier: Iterable[Job], later: Job) -> Job | None:
    """The one that spares ``later`` the most steps, or at least the search for the prefix."""
    return max(earlier, key=lambda job: (search_alike(job, later), len(shared_steps(job, later))), default=None)


def search_alike(earlier: Job, later: Job) -> bool:
    """Whether both look for their constant prefix in the same way: in the same model and windows."""
    return (
        earlier.recipe.prefix == later.recipe.prefix
        and earlier.windows.device == later.windows.device
        and torch.equal(earlier.windows, later.windows)
        and (earlier.model is later.model or earlier.model_sha256 == later.model_sha256)
    )


def _start_alike(earlier: Job, later: Job) -> bool:
    """Whether both see the same model, windows, prefix, seed and formats of activations."""
    one, other = earlier.recipe, later.recipe
    schemes = one.base_scheme(), other.base_scheme()
    return one.seed == other.seed and schemes[0].rounds_activations_like(schemes[1]) and search_alike(earlier, later)


def _round_alike(earlier: Job, later: Job) -> bool:
    """Whether weights get the same formats, from the same training windows."""
    texts = [job.training.text.sha256 if job.training else None for job in (earlier, later)]
    one, other = earlier.recipe, later.recipe
    return (one.base_scheme(), one.training, texts[0]) == (other.base_scheme(), other.training, texts[1])


def _same(one: Method, other: Method) -> bool:
    return (one.name, one.config) == (other.name, other.config)


def _same_for_all_weights(one: Method, other: Method) -> bool:
    return not one.rounds and _same(one, other)
