"""RTN: every weight goes to its nearest code. The baseline of everything, and the last step of most recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from mobilequant.arch.architecture import Architecture
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.pipeline.method import FrozenConfig, Inputs, Need, Result, Unit, UnitKind
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.group_scale import weight_scale
from mobilequant.solvers.range_search import WeightRange
from mobilequant.solvers.rounding import nearest_codes


class Rtn:
    """Scale of each row by ``weight_range``, codes by rounding half up. Reads no data."""

    name: ClassVar[str] = "rtn"
    unit: ClassVar[UnitKind] = "linear"
    inputs: ClassVar[Inputs] = "float"
    changes: ClassVar[frozenset[str]] = frozenset()
    rounds: ClassVar[bool] = True
    Config: ClassVar[type[FrozenConfig]] = WeightRange

    def __init__(self, config: WeightRange) -> None:
        self.config = config

    def needs(self, arch: Architecture, scheme: Scheme) -> Sequence[Need]:
        """Nothing: only the weight is looked at."""
        return ()

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """Codes of one matrix."""
        return Result(weights={unit.name: round_weight(unit, scheme, self.config)})


def round_weight(unit: Unit, scheme: Scheme, weight_range: WeightRange) -> QuantizedWeight:
    """The matrix of a linear unit (or "embed"), rounded to nearest in the format of the scheme."""
    weight = unit.tensors[f"{unit.name}.weight"].float()
    qtype, group_size = scheme.weight_qtype(unit.name), scheme.weight_group_size(unit.name)
    scale = weight_scale(unit.name, weight, qtype, group_size, weight_range)
    return scale.with_codes(nearest_codes(weight, scale.elements(weight.shape[1]), qtype), qtype)
