"""SignRound (arXiv 2309.05516): block by block, each weight learns to which of its two neighbours it is rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field

from mobilequant.methods.session import SESSION, Session, SessionMethod
from mobilequant.methods.state import require_ranges
from mobilequant.methods.training import (
    base_model,
    block_linears,
    block_losses,
    finished,
    learned_ranges,
    relative_schedule,
    starting_scales,
    with_nearest_head,
    with_rounded_tables,
)
from mobilequant.pipeline.method import Need, Result, Unit
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.block_wise import train_blocks
from mobilequant.solvers.learned.weight_rounding import RoundedWeights
from mobilequant.solvers.range_search import WeightRange
from mobilequant.solvers.student import Student


class SignRoundConfig(WeightRange):
    """How long each block is trained; where rows begin to clip is learned too."""

    epochs: int = Field(1, ge=1, le=1000, description="How often a block sees each training window.")
    batch: int = Field(8, ge=1, le=4096, description="Windows per step.")
    rate: float = Field(1.0, gt=0.0, le=100.0, description="Factor on all learning rates.")


class SignRound(SessionMethod[SignRoundConfig]):
    """AdamW in place of the paper's signed gradient, static ranges learned with the rounding, lm_head to nearest."""

    name: ClassVar[str] = "signround"
    rounds: ClassVar[bool] = True
    Config: ClassVar[type[SignRoundConfig]] = SignRoundConfig

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """Codes and ranges of the whole model.

        Raises:
            UsageError: there are no ranges yet.
            TrainingError: the loss of a block is no number any more.
        """
        session: Session = stats[SESSION]
        config = self.config
        require_ranges(session.state, self.name)
        state = with_rounded_tables(session.state, unit)
        scales = starting_scales(state, block_linears(state.model), self.config)
        weights = RoundedWeights(state.model, scheme, scales, "rounding")
        student = Student(base_model(state), state.prefix, (), weights, learned_ranges(state))
        histories = train_blocks(
            student,
            state.model,
            state.prefix,
            session.training,
            relative_schedule(config.epochs, config.batch, len(session.training), config.rate, config.rate, last=0.0),
            rng,
            memory_of=session.memory,
            track=session.track,
        )
        result = with_nearest_head(finished(student, state), state, unit, self.config)
        result.measures.update(block_losses(histories))
        return result
