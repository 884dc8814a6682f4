"""OmniQuant (arXiv 2308.13137): equalization and weight clipping learned block by block; MobileQuant's ancestor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field

from mobilequant.arch.pair import Kind
from mobilequant.methods.mobilequant.faithful import PUBLISHED_PAIRS, finished_as_published, published_student
from mobilequant.methods.session import SESSION, Session, SessionMethod
from mobilequant.methods.state import require_ranges
from mobilequant.methods.training import block_losses
from mobilequant.pipeline.method import FrozenConfig, Need, Result, Unit
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.block_wise import PUBLISHED, train_blocks
from mobilequant.solvers.schedule import Rate, Schedule

# Released rates; ranges, which OmniQuant does not learn, have MobileQuant's.
_EQUALIZATION, _CLIPPING, _RANGES = Rate(5e-3, 5e-3), Rate(1e-2, 1e-2), Rate(1e-6, 1e-7)


def published_schedule(epochs: int) -> Schedule:
    """The rates of block-wise training."""
    rates = {"free_scale": _EQUALIZATION, "high": _CLIPPING, "low": _CLIPPING, "scale": _RANGES, "offset": _RANGES}
    return Schedule(epochs, batch=1, rates=rates, clip=None, warmup=0.0)


class OmniQuantConfig(FrozenConfig):
    """How long, and what is learned."""

    epochs: int = Field(20, ge=1, le=1000, description="How often a block sees each training window.")
    pairs: tuple[Kind, ...] = Field(
        PUBLISHED_PAIRS,
        description="Kinds of scale pairs; with up_to_down it is what MobileQuant calls OmniQuant-Edge.",
    )
    ranges: bool = Field(False, description="Learn the static ranges too (MobileQuant's ARL).")


class OmniQuant(SessionMethod[OmniQuantConfig]):
    """Static ranges in place of the paper's dynamic ones: they stay as they were measured, unless ``ranges``."""

    name: ClassVar[str] = "omniquant"
    rounds: ClassVar[bool] = True
    Config: ClassVar[type[FrozenConfig]] = OmniQuantConfig

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """Folded tensors, codes and ranges of the whole model.

        Raises:
            UsageError: there are no ranges yet.
            TrainingError: the loss of a block is no number any more.
        """
        session: Session = stats[SESSION]
        state = session.state
        require_ranges(state, self.name)
        student = published_student(state, self.config.pairs, learn_ranges=self.config.ranges)
        histories = train_blocks(
            student,
            state.model,
            state.prefix,
            session.training,
            published_schedule(self.config.epochs),
            rng,
            loss=PUBLISHED,
            memory_of=session.memory,
            track=session.track,
        )
        result = finished_as_published(student, state, unit)
        result.measures.update(block_losses(histories))
        return result
