"""What trained methods share: a student made of the state of a run, its training, and the result of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from mobilequant.arch import point
from mobilequant.errors import DataError, UsageError
from mobilequant.methods.ranges.method import attention_operands
from mobilequant.methods.rtn.method import round_weight
from mobilequant.methods.session import Session
from mobilequant.methods.state import with_codes
from mobilequant.models.model import Model
from mobilequant.models.quantized import QuantizedModel
from mobilequant.numerics.qtype import INT16
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.pipeline.method import FrozenConfig, Result, Unit
from mobilequant.solvers.end_to_end import distill
from mobilequant.solvers.learned.activation_range import ActivationRanges
from mobilequant.solvers.learned.piece import Transform, Weights
from mobilequant.solvers.learned.prefix_entries import PrefixEntries
from mobilequant.solvers.learned.vector_tuning import VectorTuning
from mobilequant.solvers.range_search import WeightRange
from mobilequant.solvers.schedule import Rate, Schedule
from mobilequant.solvers.student import Ranges, Student
from mobilequant.solvers.trainer import History

# Where each kind of leaf begins; all are relative to what they move, so that one set serves all models (docs).
RATES = {
    "free_scale": 3e-3,
    "share": 1e-3,
    "row_scale": 1e-3,
    "log_scale": 3e-3,
    "zero_point": 3e-3,
    "prefix_key": 1e-3,
    "prefix_value": 1e-3,
    "gain": 1e-3,
    "shift": 3e-2,
    "turn": 1e-2,
}
_LARGEST_OFFSET_RATE = 1e-2
_LAST = 0.05  # of the first rate
_LINE = 8  # numbers: rows of so many, or of a multiple, are what a GPU multiplies fast
_LARGEST_CUT = 0.02  # of a window
_CHANGE_PREFIX = (PrefixEntries, VectorTuning)  # behind these the prefix is not what its tokens give


class DistillationConfig(FrozenConfig):
    """How much is trained, on how much at a time."""

    epochs: int = Field(1, ge=1, le=1000, description="How often each training window is seen.")
    batch: int = Field(8, ge=1, le=4096, description="Windows per step; the knob when memory is short.")
    rate: float = Field(1.0, gt=0.0, le=100.0, description="Factor on the learning rates.")
    held_out: int = Field(16, ge=1, le=1024, description="Training windows kept back to choose the best state by.")
    recompute: bool = Field(False, description="Compute blocks twice instead of keeping their activations.")

    def schedule(self, windows: int) -> Schedule:
        """The rates for so many training windows, falling to a twentieth."""
        return relative_schedule(self.epochs, self.batch, windows, self.rate, self.rate, _LAST)


class TrainingConfig(DistillationConfig):
    """And what is trained beside what the method is about.

    Scales and ranges have rates of their own, apart from those of single weights: where a start is bad they have far to
    go, while a weight never has more than a step of its grid.
    """

    weight_rate: float = Field(
        1.0, gt=0.0, le=100.0, description="As rate, of single weights; 1 lets one move by about a step of its grid."
    )
    hidden_weight: float = Field(
        0.1, ge=0.0, le=100.0, description="Weight of the error behind the last block beside the KL divergence."
    )
    prefix: bool = Field(False, description="Tune the constant keys and values of the prefix too.")

    def schedule(self, windows: int) -> Schedule:
        """The rates for so many training windows, falling to a twentieth."""
        return relative_schedule(self.epochs, self.batch, windows, self.rate, self.weight_rate, _LAST)


def relative_schedule(epochs: int, batch: int, windows: int, rate: float, weight_rate: float, last: float) -> Schedule:
    """``RATES`` times ``rate`` and that of weights times its own, falling to ``last`` of them over so many windows."""
    first = {kind: rate * each for kind, each in RATES.items()}
    first["offset"] = weight_rate * offset_rate(epochs * max(1, windows // batch))
    return Schedule(epochs, batch, {kind: Rate(each, last * each) for kind, each in first.items()})


def offset_rate(steps: int) -> float:
    """Steps of the grid per update: AdamW moves a weight by up to this much, and by up to one in all updates."""
    return min(2.0 / steps, _LARGEST_OFFSET_RATE)


def train_end_to_end(
    session: Session,
    transforms: Sequence[Transform],
    weights: Weights,
    base: Model,
    config: TrainingConfig,
    rng: torch.Generator,
    method: str,
) -> Result:
    """Distil the float model of the session into a student on ``base``, and what the student then is.

    Raises:
        DataError: fewer windows than a batch and what is held out.
        TrainingError, ResourceError: see ``trainer.train`` and ``Student.block``.
    """
    state = session.state
    windows = whole_lines(session.training, len(state.prefix) if state.prefix else 0)
    rest, held_out = divided(windows, config, method)
    if config.prefix and state.prefix:
        transforms = (*transforms, PrefixEntries(state.prefix))
    student = Student(base, state.prefix, transforms, weights, learned_ranges(state), config.recompute)
    history = distill(
        student,
        state.model,
        state.prefix,
        rest,
        held_out,
        config.schedule(len(rest)),
        hidden_weight=config.hidden_weight,
        order=rng,
        memory=session.memory("training"),
        track=session.track,
    )
    return finished(student, state, history)


def whole_lines(windows: Tensor, num_prefix: int) -> Tensor:
    """Windows (N, T) without their last tokens, so few that rows of attention, prefix + T long, fill whole lines.

    Rows of any other length slow the products in attention down on a GPU. Short windows stay whole.
    """
    length = windows.shape[1]
    too_many = (num_prefix + length) % _LINE
    return windows[:, : length - too_many] if too_many <= _LARGEST_CUT * length else windows


def divided(windows: Tensor, config: DistillationConfig, method: str) -> tuple[Tensor, Tensor]:
    """Windows to train on, and those that are held out.

    Raises:
        DataError: fewer windows than a batch and what is held out.
    """
    if len(windows) < config.held_out + config.batch:
        needed = config.held_out + config.batch
        raise DataError(
            f"method {method!r} needs at least {needed} training windows, {config.held_out} of them held out, and has "
            f"{len(windows)}",
            "Set training.count (or data.count) of the recipe higher, or batch and held_out of the method lower.",
        )
    return windows[config.held_out :], windows[: config.held_out]


def finished(student: Student, state: QuantizedModel, history: History | None = None) -> Result:
    """The student's tensors, codes and ranges; whatever it does not hold stays as it is in the state."""
    found = student.finished(state.model)
    return Result(
        tensors={**found.tensors, **_fixed_prefix(student, state)},
        weights={**state.weights, **found.weights},
        activations={**state.activations, **found.activations},
        measures=divergences(history) if history else {},
    )


def divergences(history: History) -> dict[str, float]:
    """The held-out divergence at the start and of the state that is kept, as measures."""
    return {"kl_before": history.held_out[0][1], "kl_after": history.least} if history.held_out else {}


@torch.no_grad()
def _fixed_prefix(student: Student, state: QuantizedModel) -> dict[str, Tensor]:
    """The constant entries as tensors, where the changed model would give others."""
    if state.prefix is None or not any(isinstance(each, _CHANGE_PREFIX) for each in student.transforms):
        return {}
    fixed: dict[str, Tensor] = {}
    for layer in range(state.model.arch.num_layers):
        keys, values = student.entries(state.prefix, layer)
        fixed |= {point.at(layer, point.PREFIX_KEYS): keys, point.at(layer, point.PREFIX_VALUES): values}
    return fixed


def learned_ranges(state: QuantizedModel) -> Ranges:
    """All 8-bit ranges of a state as leaves, but for the probabilities, which are known.

    Activations of 16 bits pass unrounded: their step is below anything that training could see.
    """
    narrow = {name: each for name, each in state.activations.items() if each.qtype != INT16}
    return ActivationRanges(narrow, state.model.device, known_points(state), attention_operands(state.model.arch))


def known_points(state: QuantizedModel) -> list[str]:
    """Points whose parameters follow from what they are."""
    return [name for name in state.activations if point.role_of(name) == "probs"]


def trained_linears(model: Model) -> list[str]:
    """Every matrix whose rounding can be trained: all but a tied head, which is a table too."""
    return [name for name in model.linears() if not (name == point.LM_HEAD and model.arch.tied_head)]


def with_rounded_tables(state: QuantizedModel, unit: Unit) -> QuantizedModel:
    """The state with codes for all tables (and so for a tied head), rounded to nearest where there are none yet."""
    codes = dict(state.weights)
    for name in point.tables(unit.arch):
        if name not in codes:
            codes[name] = round_weight(replace(unit, name=name), state.scheme, WeightRange())
    if unit.arch.tied_head:
        codes[point.LM_HEAD] = codes[point.EMBED]
    return replace(state, weights=codes)


def with_nearest_head(found: Result, state: QuantizedModel, unit: Unit, weight_range: WeightRange) -> Result:
    """The result of training that left out lm_head, whose weights go to their nearest codes; a tied one has its own."""
    if not unit.arch.tied_head:
        head = Unit(point.LM_HEAD, unit.arch, {**unit.tensors, **found.tensors}, unit.activations)
        found.weights[point.LM_HEAD] = round_weight(head, state.scheme, weight_range)
    return found


def block_losses(histories: Sequence[History]) -> dict[str, float]:
    """The last loss of every block, as measures."""
    return {f"layer_{layer}_loss": each.training[-1] for layer, each in enumerate(histories)}


def block_linears(model: Model) -> list[str]:
    """Every matrix inside a block."""
    return [name for name in model.linears() if name != point.LM_HEAD]


def base_model(state: QuantizedModel) -> Model:
    """What a student computes with: float matrices, rounded tables."""
    arch = state.model.arch
    return with_codes(state, [*point.tables(arch), *([point.LM_HEAD] if arch.tied_head else [])])


def starting_scales(state: QuantizedModel, names: Sequence[str], weight_range: WeightRange) -> Mapping[str, Tensor]:
    """Scales (R,) of matrices: of their codes where there are any, else searched."""
    return {name: _starting_scale(state, name, weight_range) for name in names}


def _starting_scale(state: QuantizedModel, name: str, weight_range: WeightRange) -> Tensor:
    weight, scheme = state.model.weight(name).float(), state.scheme
    width = scheme.weight_group_size(name) or weight.shape[1]
    if name in state.weights:
        return state.weights[name].element_scale()[:, ::width].flatten()
    return weight_range.row_scale(weight.reshape(-1, width), scheme.weight_qtype(name))


def require_codes(state: QuantizedModel, names: Sequence[str], method: str) -> dict[str, QuantizedWeight]:
    """The codes of matrices.

    Raises:
        UsageError: there are none.
    """
    missing = [name for name in names if name not in state.weights]
    if missing:
        raise UsageError(
            f"method {method!r} starts from codes, and {missing[0]} has none", "Put gptq or rtn in front of it."
        )
    return {name: state.weights[name] for name in names}
