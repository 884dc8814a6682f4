"""The contract between the pipeline and a published method: about all there is to know to add one.

A method says which statistics it wants and turns them into new tensors, parameters or codes. It never loads data,
moves devices, writes files, prints, parses arguments or names a family. The pipeline merges the needs of a step, makes
one data pass, checkpoints after each unit, and seeds each unit from (seed, unit name).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from mobilequant.arch.architecture import Architecture
from mobilequant.numerics.placement import on_device
from mobilequant.numerics.qparams import QParams
from mobilequant.pipeline.scheme import Scheme

if TYPE_CHECKING:
    import torch

    from mobilequant.numerics.weight import QuantizedWeight

UnitKind = Literal["linear", "block", "model"]
StatisticKind = Literal["range", "minmax", "absmax", "mean", "token_absmax", "plane_reach", "hessian", "session"]
Inputs = Literal["float", "quantized", "session"]


# ``Method.changes`` of a method behind which the float model is another one: nothing may follow it.
EVERYTHING: frozenset[str] = frozenset({"*"})


class FrozenConfig(BaseModel):
    """Base of every method's configuration: immutable, unknown keys refused, each field with help and range."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Need:
    """One statistic of one activation point.

    ``range``: distribution of all values (min, max, percentiles, Lp-optimal), an ``observe.range.RangeStatistic``;
    ``minmax``: the two extremes only, for points that are never clipped, an ``observe.minmax.Extremes``;
    ``absmax``: largest magnitude per channel, (C,); ``mean``: average per channel, (C,) float64;
    ``token_absmax``: largest magnitude of each token, (N, T);
    ``plane_reach``: how far queries or keys reach in the planes that RoPE turns, (H, planes, directions);
    ``hessian``: average of x·xᵀ over tokens, an ``observe.hessian.Hessian``;
    ``session``: no statistic, but model and windows themselves, a ``methods.session.Session`` (ADR 0012).
    """

    kind: StatisticKind
    point: str


@dataclass(frozen=True)
class Unit:
    """What a method may look at: the unit's own name and the model as it is now (read only)."""

    name: str  # "layers.3.down" or "embed" (linear); "layers.3" or "head" (block); "model"
    arch: Architecture
    tensors: Mapping[str, torch.Tensor]
    activations: Mapping[str, QParams]


RewriteKind = Literal[
    "fold_gains",
    "to_rms_norm",
    "rotate_residual",
    "rotate_values",
    "rotate_keys",
    "fold",
    "scale_residual",
    "scale_head_norm_input",
]


@dataclass(frozen=True)
class Rewrite:
    """A function-preserving change of many tensors, told by the little that it takes (``transforms.rewrite``).

    It is what a checkpoint keeps, and it is carried out a part of the model at a time (ADR 0015).
    """

    kind: RewriteKind
    where: str = ""
    factor: torch.Tensor | None = None


@dataclass(frozen=True)
class Result:
    """What a method changes. Names are those of ``arch.point``; ``measures`` go to log, report and results.

    ``rewrites`` are carried out in their order, before all else is taken in. ``norm``: what the norms of the residual
    become, for tensors that make both kinds of norm the same (ADR 0011).
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    activations: dict[str, QParams] = field(default_factory=dict)
    weights: dict[str, QuantizedWeight] = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)
    norm: Literal["rms"] | None = None
    rewrites: tuple[Rewrite, ...] = ()

    def to(self, device: str | torch.device) -> Result:
        """A copy on another device; what stands under two names stays one object. Rewrites go where they are needed."""
        return replace(self, tensors=on_device(self.tensors, device), weights=on_device(self.weights, device))


class Method(Protocol):
    """A published method. Instances are made by the registry from a recipe entry: ``Method(Config(**entry))``."""

    name: ClassVar[str]
    unit: ClassVar[UnitKind]
    # "float": statistics of the float model, all units in one pass. "quantized": block by block, each block
    # seeing the inputs that the already quantized blocks before it produce. "session": the method runs the model.
    inputs: ClassVar[Inputs]
    # Roles of the points whose values the result changes in the float model. A method behind this one that needs none
    # of them shares its data pass.
    changes: ClassVar[frozenset[str]]
    # Whether it rounds weights, to keep their codes or to learn from them. Only such a method may read the scheme's
    # weight format: what the others do is the same for all formats, and runs that differ in nothing else share it
    # (ADR 0010).
    rounds: ClassVar[bool]
    Config: ClassVar[type[FrozenConfig]]
    config: Any

    def needs(self, arch: Architecture, scheme: Scheme) -> Sequence[Need]:
        """The statistics that ``apply`` will read."""
        ...

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """New tensors, parameters or codes for one unit."""
        ...
