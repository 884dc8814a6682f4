"""The paper's simulation: min-max ranges, weights clipped and rounded to nearest, embedding and lm_head in float."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mobilequant.arch.pair import Kind
from mobilequant.methods.mobilequant import published_bits
from mobilequant.methods.mobilequant.faithful import PUBLISHED_PAIRS
from mobilequant.methods.registry import make
from mobilequant.methods.unit import all_units, unit_generator
from mobilequant.models import decoder
from mobilequant.models.model import Model
from mobilequant.numerics.qparams import QParams, asymmetric
from mobilequant.observe.collect import collect
from mobilequant.pipeline.method import Method, Need, Unit
from mobilequant.pipeline.scheme import parse_scheme
from mobilequant.solvers.learned.activation_range import ActivationRanges
from mobilequant.solvers.learned.clipped_weight import START, UNCLIPPED, ClippedWeights
from mobilequant.solvers.learned.pair_scale import PLAIN, PairScales
from mobilequant.solvers.learned.published_range import PUBLISHED as PUBLISHED_RANGES
from mobilequant.solvers.student import Student
from mobilequant.transforms.rewrite import rewritten

# Bits of the weights, and whether they are symmetric.
FORMATS = {"w8a8": (8, False), "w4a8-sym": (4, True), "w4a8-asym": (4, False)}
FIRST_WINDOWS = 40
_SCHEME = parse_scheme("static_w4c_a8_kv8")


@dataclass(frozen=True)
class Start:
    """A float model, smoothed or not, with the ranges that were measured on it."""

    model: Model
    ranges: dict[str, QParams]


@dataclass(frozen=True)
class Learned:
    """What training may move."""

    pairs: tuple[Kind, ...] = PUBLISHED_PAIRS
    clipping: bool = True
    ranges: bool = True


EVERYTHING, NOTHING = Learned(), Learned((), clipping=False, ranges=False)


def magnitudes(model: Model, on_range: Tensor) -> Mapping[Need, Any]:
    """What smoothing has to know of the activations, for all pairs of the paper."""
    return collect(model, on_range, _smoothing(PUBLISHED_PAIRS).needs(model.arch, _SCHEME))


def smooth(model: Model, stats: Mapping[Need, Any], pairs: Sequence[Kind] = PUBLISHED_PAIRS) -> Model:
    """SmoothQuant with alpha one half."""
    method = _smoothing(pairs)
    for name in all_units("block", model.arch):
        unit = Unit(name, model.arch, model.tensors, {})
        model = rewritten(model, method.apply(unit, stats, _SCHEME, unit_generator(0, name)).rewrites)
    return model


def measured(model: Model, on_range: Tensor) -> Start:
    """Ranges from least to largest value of every point that the paper rounds."""
    formats = published_bits.activations(model.arch)
    stats = collect(model, on_range, [Need("minmax", name) for name in formats])
    extremes = {name: stats[Need("minmax", name)] for name in formats}
    return Start(
        model, {name: asymmetric(extremes[name].low, extremes[name].high, qtype) for name, qtype in formats.items()}
    )


def student(start: Start, setting: str, learned: Learned = EVERYTHING) -> Student:
    """The simulation of one of ``FORMATS``; weights whose clipping is not learned are not clipped."""
    model, (num_bits, symmetric) = start.model, FORMATS[setting]
    formats = published_bits.weights(model.arch, num_bits, symmetric=symmetric)
    weights = ClippedWeights(model, formats, START if learned.clipping else UNCLIPPED)
    fixed = () if learned.ranges else start.ranges
    ranges = ActivationRanges(start.ranges, model.device, fixed, how=PUBLISHED_RANGES)
    return Student(model, None, (PairScales(model.arch, learned.pairs, model.device, PLAIN),), weights, ranges)


@torch.inference_mode()
def window_losses(model: Model, student: Student | None, scored: Tensor) -> Tensor:
    """Mean negative log-likelihood (N,) float64 of tokens 2 … T of windows (N, T), each from position 0; final norm and
    lm_head in float. Without a student it is that of the float model."""
    found = []
    for batch in scored.split(8):
        body = student.body(batch) if student else decoder.body(model, batch)
        for hidden, window in zip(body, batch, strict=True):
            logarithms = decoder.head(model, hidden[None])[0, :-1].log_softmax(-1)
            found.append(-logarithms.gather(1, window[1:, None]).double().mean())
    return torch.stack(found)


def perplexities(model: Model, student: Student | None, scored: Tensor) -> dict[str, float]:
    """Of the first 40 windows and of all."""
    losses = window_losses(model, student, scored)
    return {"ppl_wiki_40": perplexity(losses[:FIRST_WINDOWS]), "ppl_wiki_all": perplexity(losses)}


def perplexity(losses: Tensor) -> float:
    """Of windows that are equally long."""
    return math.exp(losses.mean().item())


def _smoothing(pairs: Sequence[Kind]) -> Method:
    return make("smoothquant", {"alpha": 0.5, "balance": "input", "pairs": list(pairs)})
