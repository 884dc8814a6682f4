"""MobileQuant as published (arXiv 2408.13933, §4 and §5.1, with the rates released for Llama models).

LET   scales of norm→qkv, norm→gate/up, up→down, absolute, never below 1e-2           AdamW, cosine 1e-3 → 1e-4
LWC   σ(a)·max and σ(b)·min of each row                  1e-2 → 1e-3, symmetric 4 bits 1e-3 → 1e-4
LRL   scale and offset of each activation, absolute                                     1e-6 → 1e-7
loss  mean squared error of the last block's output; one window at a time, no clipping, no warm-up, no best state
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mobilequant.arch.pair import Kind
from mobilequant.methods.ranges.method import attention_operands
from mobilequant.methods.session import Session
from mobilequant.methods.training import block_linears, finished, known_points, with_nearest_head, with_rounded_tables
from mobilequant.models import decoder
from mobilequant.models.model import KVPrefix, Model
from mobilequant.models.quantized import QuantizedModel
from mobilequant.numerics.qtype import INT16
from mobilequant.pipeline.method import Result, Unit
from mobilequant.solvers.end_to_end import match_hidden
from mobilequant.solvers.learned.activation_range import ActivationRanges
from mobilequant.solvers.learned.clipped_weight import ClippedWeights, WeightFormat
from mobilequant.solvers.learned.pair_scale import PLAIN, PairScales
from mobilequant.solvers.learned.published_range import PUBLISHED
from mobilequant.solvers.range_search import WeightRange
from mobilequant.solvers.schedule import Rate, Schedule
from mobilequant.solvers.student import Student

# v to o and q to k are on only where heads are not shared, and then q to k does not preserve the function under RoPE.
PUBLISHED_PAIRS: tuple[Kind, ...] = ("norm_to_qkv", "norm_to_mlp", "up_to_down")


def published_schedule(epochs: int, num_bits: int, *, symmetric: bool) -> Schedule:
    """The rates of end-to-end training."""
    clip = Rate(1e-3, 1e-4) if num_bits == 4 and symmetric else Rate(1e-2, 1e-3)
    ranges = Rate(1e-6, 1e-7)
    rates = {"free_scale": Rate(1e-3, 1e-4), "high": clip, "low": clip, "scale": ranges, "offset": ranges}
    return Schedule(epochs, batch=1, rates=rates, clip=None, warmup=0.0)


def train_as_published(session: Session, unit: Unit, epochs: int, rng: torch.Generator) -> Result:
    """The published training inside this project's integers: symmetric weights per channel, nothing left in float."""
    state = session.state
    student = published_student(state, PUBLISHED_PAIRS, learn_ranges=True)
    match_hidden(
        student,
        session.training,
        last_residuals(state.model, state.prefix, session.training),
        published_schedule(epochs, state.scheme.weight_bits, symmetric=True),
        order=rng,
        memory=session.memory("training"),
        track=session.track,
    )
    return finished_as_published(student, state, unit)


def published_student(state: QuantizedModel, kinds: Iterable[Kind], *, learn_ranges: bool) -> Student:
    """The leaves of the paper on the formats of a scheme; one range per channel, since the paper has no groups."""
    model, arch = state.model, state.model.arch
    fixed = known_points(state) if learn_ranges else list(state.activations)
    wide = [name for name, each in state.activations.items() if each.qtype == INT16]
    ranges = ActivationRanges(state.activations, model.device, fixed, [*attention_operands(arch), *wide], PUBLISHED)
    formats = dict.fromkeys(
        block_linears(model), WeightFormat(state.scheme.weight_bits, symmetric=True, per_channel=True)
    )
    pairs = PairScales(arch, kinds, model.device, PLAIN)
    return Student(model, state.prefix, (pairs,), ClippedWeights(model, formats), ranges)


def finished_as_published(student: Student, state: QuantizedModel, unit: Unit) -> Result:
    """The student as integers; tables and lm_head, which the paper leaves in float, go to their nearest codes."""
    return with_nearest_head(finished(student, with_rounded_tables(state, unit)), state, unit, WeightRange())


@torch.no_grad()
def last_residuals(model: Model, prefix: KVPrefix | None, windows: Tensor) -> Tensor:
    """What the student is to match: the float residuals (N, T, C) behind the last block."""
    return torch.cat([decoder.body(model, window[None], prefix=prefix) for window in windows])
