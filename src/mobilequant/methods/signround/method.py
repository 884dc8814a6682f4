"""SignRound (arXiv 2309.05516): block by block, each weight learns to which of its two neighbours it is rounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.methods.rtn.method import round_weight
from mobilequant.methods.session import SESSION, Session
from mobilequant.methods.training import (
    RATES,
    base_model,
    finished,
    learned_ranges,
    offset_rate,
    require_ranges,
    starting_scales,
    with_rounded_tables,
)
from mobilequant.pipeline.method import Inputs, Need, Result, Unit, UnitKind
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.block_wise import train_blocks
from mobilequant.solvers.learned.weight_rounding import RoundedWeights
from mobilequant.solvers.range_search import WeightRange
from mobilequant.solvers.schedule import Rate, Schedule
from mobilequant.solvers.student import Student


class SignRoundConfig(WeightRange):
    """How long each block is trained; where rows begin to clip is learned too."""

    epochs: int = Field(1, ge=1, le=1000, description="How often a block sees each training window.")
    batch: int = Field(8, ge=1, le=4096, description="Windows per step.")
    rate: float = Field(1.0, gt=0.0, le=100.0, description="Factor on all learning rates.")


class SignRound:
    """AdamW in place of the paper's signed gradient, static ranges learned with the rounding, lm_head to nearest."""

    name: ClassVar[str] = "signround"
    unit: ClassVar[UnitKind] = "model"
    inputs: ClassVar[Inputs] = "session"
    changes: ClassVar[frozenset[str]] = frozenset()
    rounds: ClassVar[bool] = True
    Config: ClassVar[type[SignRoundConfig]] = SignRoundConfig

    def __init__(self, config: SignRoundConfig) -> None:
        self.config = config

    def needs(self, arch: Architecture, scheme: Scheme) -> Sequence[Need]:
        """Nothing but the session."""
        return (SESSION,)

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """Codes and ranges of the whole model.

        Raises:
            UsageError: there are no ranges yet.
            TrainingError: the loss of a block is no number any more.
        """
        session: Session = stats[SESSION]
        require_ranges(session.state, self.name)
        state = with_rounded_tables(session.state, unit)
        scales = starting_scales(state, _in_blocks(state.model.linears()), self.config)
        weights = RoundedWeights(state.model, scheme, scales, "rounding")
        student = Student(base_model(state), state.prefix, (), weights, learned_ranges(state))
        histories = train_blocks(
            student,
            state.model,
            state.prefix,
            session.training,
            self._schedule(len(session.training)),
            rng,
            memory_of=session.memory,
            track=session.track,
        )
        result = finished(student, state)
        if not unit.arch.tied_head:
            head = Unit(point.LM_HEAD, unit.arch, unit.tensors, unit.activations)
            result.weights[point.LM_HEAD] = round_weight(head, scheme, self.config)
        result.measures.update({f"layer_{i}_loss": each.training[-1] for i, each in enumerate(histories)})
        return result

    def _schedule(self, windows: int) -> Schedule:
        steps = self.config.epochs * max(1, windows // self.config.batch)
        rates = {kind: self.config.rate * rate for kind, rate in {**RATES, "offset": offset_rate(steps)}.items()}
        return Schedule(self.config.epochs, self.config.batch, {kind: Rate(rate, 0.0) for kind, rate in rates.items()})


def _in_blocks(linears: Sequence[str]) -> list[str]:
    return [name for name in linears if name != point.LM_HEAD]
