"""Self-distillation: the weights themselves are trained under the integer grid, the float model being the teacher.

This is quantization-aware tuning (LLM-QAT, arXiv 2305.17888, §2): the codes that come out are no rounding of the float
weights any more. Its results are reported apart from those of methods that only round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch

from mobilequant.methods.session import SESSION, Session, SessionMethod
from mobilequant.methods.state import require_ranges
from mobilequant.methods.training import (
    TrainingConfig,
    base_model,
    require_codes,
    train_end_to_end,
    trained_linears,
    with_rounded_tables,
)
from mobilequant.pipeline.method import EVERYTHING, FrozenConfig, Need, Result, Unit
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.learned.moved_codes import MovedCodes
from mobilequant.solvers.learned.vector_tuning import VectorTuning


class SelfDistillation(SessionMethod[TrainingConfig]):
    """Starts from codes; every weight, gain and bias may wander away from its own, and scales and ranges with it."""

    name: ClassVar[str] = "self_distillation"
    changes: ClassVar[frozenset[str]] = EVERYTHING
    rounds: ClassVar[bool] = True
    Config: ClassVar[type[FrozenConfig]] = TrainingConfig

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """New codes and ranges of the whole model; the held-out divergence before and after.

        Raises:
            UsageError: there are no ranges or no codes yet.
            DataError: too few training windows.
            TrainingError: the loss is no number any more.
            ResourceError: the memory of the GPU does not suffice.
        """
        session: Session = stats[SESSION]
        require_ranges(session.state, self.name)
        state = with_rounded_tables(session.state, unit)
        linears = trained_linears(state.model)
        weights = MovedCodes(require_codes(state, linears, self.name))
        vectors = VectorTuning(state.model, state.activations)
        session, base = replace(session, state=state), base_model(state)
        return train_end_to_end(session, (vectors,), weights, base, self.config, rng, self.name)
