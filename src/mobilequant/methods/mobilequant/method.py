"""MobileQuant (arXiv 2408.13933): equalization, weights and static ranges learned together, end to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from mobilequant.arch.pair import Kind
from mobilequant.methods.mobilequant.faithful import train_as_published
from mobilequant.methods.session import SESSION, Session, SessionMethod
from mobilequant.methods.state import require_ranges
from mobilequant.methods.training import (
    TrainingConfig,
    base_model,
    require_codes,
    starting_scales,
    train_end_to_end,
    trained_linears,
    with_rounded_tables,
)
from mobilequant.models.model import Model
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.pipeline.method import Need, Result, Unit
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.learned.fixed_codes import FixedCodes
from mobilequant.solvers.learned.pair_scale import PairScales
from mobilequant.solvers.learned.weight_rounding import RoundedWeights, within_reach
from mobilequant.solvers.range_search import WeightRange

_PUBLISHED_EPOCHS = 20
_SHARED_OPTIONS = {"mode", "epochs"}
_ON_CODES = ("fixed", "codes")


class MobileQuantConfig(TrainingConfig, WeightRange):
    """What is learned beside the ranges, and how."""

    mode: Literal["default", "faithful"] = Field(
        "default", description="faithful: as published, with the paper's pairs, clips, rates and objective."
    )
    weights: Literal["fixed", "codes", "nearest", "rounding"] = Field(
        "codes",
        description="fixed: as they are. codes: keep those that there are, learn scales of rows. nearest: learn how "
        "far rows reach. rounding: that, and for each weight which of its two neighbours it goes to.",
    )
    pairs: tuple[Kind, ...] = Field((), description="Kinds of scale pairs that are learned; not with codes.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        extra = self.model_fields_set - _SHARED_OPTIONS
        if self.mode == "faithful" and extra:
            raise ValueError(f"mode faithful is as published and takes no {', '.join(sorted(extra))}")
        if self.pairs and self.weights in _ON_CODES:
            raise ValueError("pairs change the weights; with pairs, weights must be nearest or rounding")
        if "weight_rate" in extra and self.weights != "rounding":
            raise ValueError("weight_rate is that of single weights; with it, weights must be rounding")
        return self

    @property
    def chosen_epochs(self) -> int:
        """As given, else the default of the mode."""
        published = self.mode == "faithful" and "epochs" not in self.model_fields_set
        return _PUBLISHED_EPOCHS if published else self.epochs


class MobileQuant(SessionMethod[MobileQuantConfig]):
    """Trains on the windows of the recipe's ``training``, against the float model."""

    name: ClassVar[str] = "mobilequant"
    rounds: ClassVar[bool] = True
    Config: ClassVar[type[MobileQuantConfig]] = MobileQuantConfig

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """Folded tensors, codes and ranges of the whole model; the held-out divergence before and after.

        Raises:
            UsageError: there are no ranges yet, or no codes where training starts from them.
            DataError: too few training windows.
            TrainingError: the loss is no number any more.
            ResourceError: the memory of the GPU does not suffice.
        """
        session: Session = stats[SESSION]
        require_ranges(session.state, self.name)
        if self.config.mode == "faithful":
            return train_as_published(session, unit, self.config.chosen_epochs, rng)
        state = with_rounded_tables(session.state, unit)
        linears, config = trained_linears(state.model), self.config
        session = replace(session, state=state)
        base = base_model(state)
        if config.weights in _ON_CODES:
            codes = require_codes(state, linears, self.name)
            fixed = FixedCodes(codes, learn_scales=config.weights == "codes")
            return train_end_to_end(session, (), fixed, base, config, rng, self.name)
        scales = starting_scales(state, linears, config)
        offset: Literal["none", "rounding"] = "rounding" if config.weights == "rounding" else "none"
        started = {n: state.weights[n] for n in linears if n in state.weights} if offset == "rounding" else {}
        base = _with_codes_in_reach(base, started)
        rounded = RoundedWeights(base, scheme, scales, offset, started)
        transforms = (PairScales(unit.arch, config.pairs, state.model.device),) if config.pairs else ()
        return train_end_to_end(session, transforms, rounded, base, config, rng, self.name)


def _with_codes_in_reach(model: Model, codes: Mapping[str, QuantizedWeight]) -> Model:
    """The model in which rounding can end at codes that it starts from, and at their neighbours."""
    moved = {f"{name}.weight": within_reach(model.weight(name), each) for name, each in codes.items()}
    return model.with_tensors(moved)
