"""Which down_proj inputs deserve 16 bits: the few whose rounding moves the logits most.

Each is rounded alone in the float model, and the Kullback–Leibler divergence of the logits is what that costs. Leaving
one out of the fully rounded model instead would measure a small difference between two large, chaotic errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.models.decoder import Tap, forward, untouched
from mobilequant.models.quantized import QuantizedModel, fake_quantize
from mobilequant.numerics.qparams import symmetric
from mobilequant.numerics.qtype import INT16
from mobilequant.observe.collect import collect
from mobilequant.pipeline.method import Need
from mobilequant.pipeline.progress import Track, silent


def choose_sixteen_bit(
    quantized: QuantizedModel, windows: Tensor, *, fraction: float = 0.1, track: Track = silent
) -> frozenset[str]:
    """At most ⌊fraction · layers⌋ down_proj inputs: those whose 8-bit rounding costs the most KL on windows (N, T)."""
    wanted = math.floor(fraction * quantized.model.arch.num_layers)
    if wanted == 0:
        return frozenset()
    costs = rounding_costs(quantized, windows, down_inputs(quantized), track=track)
    return frozenset(sorted(costs, key=lambda name: costs[name], reverse=True)[:wanted])


def down_inputs(quantized: QuantizedModel) -> list[str]:
    """The down_proj inputs that have 8 bits, in layer order."""
    arch = quantized.model.arch
    names = [point.at(layer, point.down_input(arch)) for layer in range(arch.num_layers)]
    return [name for name in names if quantized.activations[name].qtype != INT16]


@torch.inference_mode()
def rounding_costs(
    quantized: QuantizedModel, windows: Tensor, points: Sequence[str], *, track: Track = silent
) -> dict[str, float]:
    """Mean KL(float ‖ float with one point rounded) in nats per token over windows (N, T), for each of ``points``."""
    references = [_log_probabilities(quantized, window, untouched) for window in windows]

    def cost(name: str) -> float:
        tap, total = _rounding_alone(quantized, name), 0.0
        for window, expected in zip(windows, references, strict=True):
            found = _log_probabilities(quantized, window, tap)
            total += (expected.exp() * (expected - found)).sum(-1).mean().item()
        return total / len(windows)

    return {name: cost(name) for name in track(points, "16-bit choice", len(points))}


def widen_to_sixteen_bit(
    quantized: QuantizedModel, windows: Tensor, points: frozenset[str], *, margin: float = 1.25, track: Track = silent
) -> QuantizedModel:
    """The same model with ``points`` in symmetric int16 over their extremes on windows (N, T), times a margin."""
    needs: Mapping[str, Need] = {name: Need("minmax", name) for name in sorted(points)}
    stats = collect(quantized.model, windows, needs.values(), prefix=quantized.prefix, track=track)
    wide = {name: symmetric(margin * max(-stats[need].low, stats[need].high), INT16) for name, need in needs.items()}
    scheme = quantized.scheme.with_sixteen_bit(points)
    return replace(quantized, scheme=scheme, activations={**quantized.activations, **wide})


def _log_probabilities(quantized: QuantizedModel, window: Tensor, tap: Tap) -> Tensor:
    return forward(quantized.model, window[None], tap=tap, prefix=quantized.prefix)[0].log_softmax(-1)


def _rounding_alone(quantized: QuantizedModel, point_name: str) -> Tap:
    """The tap that rounds one point and lets all others through."""
    qparams = quantized.activations[point_name]
    return lambda name, value: fake_quantize(value, qparams) if name == point_name else value
