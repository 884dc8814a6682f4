"""GPTQ (arXiv 2210.17323): rounding that makes up for its own errors, on inputs that are already quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.methods.rtn.method import round_weight
from mobilequant.pipeline.method import FrozenConfig, Inputs, Need, Result, Unit, UnitKind
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.gptq import GptqSettings, gptq_codes, output_error
from mobilequant.solvers.range_search import WeightRange


class GptqConfig(WeightRange):
    """GPTQ's own choices on top of how far a row reaches."""

    damping: float = Field(0.01, gt=0.0, le=1.0, description="Share of the mean diagonal added to the Hessian's.")
    block_size: int = Field(128, ge=1, le=4096, description="Columns between two updates of all later columns.")
    act_order: bool = Field(True, description="Round the columns with the largest inputs first.")
    lm_head: bool = Field(False, description="Use GPTQ for an untied lm_head too; it has 8 bits, so RTN is near exact.")


class Gptq:
    """Second-order rounding of every linear of a block; "embed" and a tied or excluded lm_head are rounded to nearest.

    ``q, k, v`` (and ``gate, up``) read one input and therefore share one Hessian.
    """

    name: ClassVar[str] = "gptq"
    unit: ClassVar[UnitKind] = "linear"
    inputs: ClassVar[Inputs] = "quantized"
    changes: ClassVar[frozenset[str]] = frozenset()
    rounds: ClassVar[bool] = True
    Config: ClassVar[type[FrozenConfig]] = GptqConfig

    def __init__(self, config: GptqConfig) -> None:
        self.config = config

    def needs(self, arch: Architecture, scheme: Scheme) -> Sequence[Need]:
        """The Hessian of every distinct linear input."""
        linears = [name for name in point.all_linears(arch) if self._solves(arch, name)]
        return list(dict.fromkeys(_hessian(arch, name) for name in linears))

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """Codes of one matrix, with the objective relative to RTN's as a measure."""
        nearest = round_weight(unit, scheme, self.config)
        if not self._solves(unit.arch, unit.name):
            return Result(weights={unit.name: nearest})
        weight, hessian = unit.tensors[f"{unit.name}.weight"].float(), stats[_hessian(unit.arch, unit.name)].matrix
        settings = GptqSettings(self.config.damping, self.config.block_size, self.config.act_order)
        scale = nearest.element_scale()
        codes = gptq_codes(unit.name, weight, hessian, scale, nearest.qtype, settings)
        before, after = (
            output_error(weight, chosen * scale, hessian).sum().item() for chosen in (nearest.codes, codes)
        )
        solved = type(nearest)(codes, nearest.scale, nearest.qtype, nearest.group_multiplier)
        return Result(weights={unit.name: solved}, measures={"error_to_rtn": after / before if before else 1.0})

    def _solves(self, arch: Architecture, name: str) -> bool:
        if name == point.LM_HEAD:
            return self.config.lm_head and not arch.tied_head
        return name not in point.tables(arch)


def _hessian(arch: Architecture, linear: str) -> Need:
    return Need("hessian", point.input_of(arch, linear))
