"""SpinQuant (arXiv 2405.16406): rotations that weights absorb, learned against the float model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator

from mobilequant.arch import point
from mobilequant.errors import UsageError
from mobilequant.methods.ranges.method import PROBS, attention_operands
from mobilequant.methods.session import SESSION, Session, SessionMethod
from mobilequant.methods.training import DistillationConfig, block_linears, divergences, divided, starting_scales
from mobilequant.models.model import Model
from mobilequant.models.quantized import QuantizedModel
from mobilequant.numerics.qtype import UINT8
from mobilequant.pipeline.method import Need, Result, Rewrite, Unit
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.end_to_end import distill
from mobilequant.solvers.learned.key_angle import KeyAngles
from mobilequant.solvers.learned.measured_range import MeasuredRanges
from mobilequant.solvers.learned.rotation import TURN, Rotations, TurnedStream
from mobilequant.solvers.learned.weight_rounding import RoundedWeights
from mobilequant.solvers.range_search import WeightRange
from mobilequant.solvers.student import Student
from mobilequant.transforms.rotation import why_not_ready, why_not_rotatable

_log = logging.getLogger(__name__)


class LearnedRotationConfig(DistillationConfig):
    """Which rotations are learned, and how long."""

    residual: bool = Field(True, description="Learn R1, one matrix for the residual stream of all layers.")
    heads: bool = Field(True, description="Learn R2, a matrix per key/value head between v and o.")

    keys: bool = Field(False, description="Learn the angles of queries and keys that RoPE lets through (Tₖ).")

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if not (self.residual or self.heads or self.keys):
            raise ValueError("residual, heads and keys are all false, so that nothing is learned")
        return self


class LearnedRotation(SessionMethod[LearnedRotationConfig]):
    """Starts from what ``rotate`` has folded, and leaves float tensors; codes and ranges come behind it.

    While it learns, weights are rounded to nearest in the scheme's format, rows clipped as is learned with them, and
    activations of 8 bits in ranges that are measured in each batch.
    """

    name: ClassVar[str] = "learned_rotation"
    rounds: ClassVar[bool] = True  # no codes, but what it finds depends on the format of the weights
    Config: ClassVar[type[LearnedRotationConfig]] = LearnedRotationConfig

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """The rotations, to be carried out; the held-out divergence before and after.

        Raises:
            UsageError: codes or ranges are there already; or the norms have gains, or the channels of the residual
                units of their own.
            DataError: too few training windows.
            TrainingError: the loss is no number any more.
            ResourceError: the memory of the GPU does not suffice.
        """
        session: Session = stats[SESSION]
        state = session.state
        _require_float(state, self.name)
        residual = self.config.residual and _residual_rotates(state.model, self.name)
        device = state.model.device
        rotations = Rotations(unit.arch, device, residual=residual, heads=self.config.heads)
        angles = KeyAngles(unit.arch, device) if self.config.keys else None
        student = _student(state, rotations, angles, self.config.recompute)
        if not any(name.endswith(TURN) for name in student.parameters(student.parts())):
            return Result()
        rest, held_out = divided(session.training, self.config, self.name)
        history = distill(
            student,
            state.model,
            state.prefix,
            rest,
            held_out,
            self.config.schedule(len(rest)),
            hidden_weight=0.0,  # the student's residual is in another basis
            order=rng,
            memory=session.memory("training"),
            track=session.track,
        )
        return Result(rewrites=tuple(_rewrites(rotations, angles)), measures=divergences(history))


def _student(state: QuantizedModel, rotations: Rotations, angles: KeyAngles | None, recompute: bool) -> Student:
    model, scheme, arch = state.model, state.scheme, state.model.arch
    scales = starting_scales(state, block_linears(model), WeightRange())
    weights = RoundedWeights(model, scheme, scales)
    points = [name for name in point.all_points(arch) if scheme.activation_qtype(name) == UINT8]
    known = {name: PROBS[UINT8] for name in points if point.role_of(name) == "probs"}
    ranges = MeasuredRanges(points, model.device, known, attention_operands(arch))
    transforms = (rotations, angles) if angles else (rotations,)
    return Student(model, state.prefix, transforms, weights, TurnedStream(ranges, rotations), recompute)


def _rewrites(rotations: Rotations, angles: KeyAngles | None) -> list[Rewrite]:
    """What is to be carried out, by matrices that are exactly orthogonal."""
    residual, heads = rotations.finished()
    of_residual = [] if residual is None else [Rewrite("rotate_residual", factor=residual)]
    of_heads = [Rewrite("rotate_values", f"layers.{layer}", each) for layer, each in heads.items()]
    turned = angles.finished() if angles else {}
    return [*of_residual, *of_heads, *(Rewrite("rotate_keys", f"layers.{i}", each) for i, each in turned.items())]


def _residual_rotates(model: Model, method: str) -> bool:
    """Whether there is an R1 to learn."""
    if model.arch.post_norms:
        _log.warning("the residual is not rotated: %s", why_not_rotatable(model.tensors, model.arch))
        return False
    reason = why_not_rotatable(model.tensors, model.arch) or why_not_ready(model.tensors, model.arch)
    if reason:
        raise UsageError(f"method {method!r}: {reason}", f"Put rotate before {method!r}, ptf and smoothquant behind.")
    return True


def _require_float(state: QuantizedModel, method: str) -> None:
    if state.activations or state.weights:
        raise UsageError(
            f"method {method!r} changes the bases of a model that has ranges or codes already",
            f"Put {method!r} before the methods that make ranges and codes.",
        )
