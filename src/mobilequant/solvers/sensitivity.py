"""Which down_proj inputs deserve 16 bits: the few whose rounding moves the logits most.

Each is rounded alone in the float model, and the Kullback–Leibler divergence of the logits is what that costs. Leaving
one out of the fully rounded model instead would measure a small difference between two large, chaotic errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.size import elements_per_token
from mobilequant.models.decoder import Tap, block, blocks, embed, head
from mobilequant.models.model import KVPrefix, Model
from mobilequant.models.quantized import QuantizedModel, fake_quantize
from mobilequant.numerics.qparams import QParams, symmetric
from mobilequant.numerics.qtype import INT16
from mobilequant.observe.collect import collect
from mobilequant.pipeline.method import Need
from mobilequant.pipeline.progress import Track, silent
from mobilequant.solvers.divergence import Reference


def choose_sixteen_bit(
    quantized: QuantizedModel, windows: Tensor, *, fraction: float = 0.1, track: Track = silent
) -> frozenset[str]:
    """At most ⌊fraction · layers⌋ down_proj inputs: those whose 8-bit rounding costs the most KL on windows (N, T) per
    element that gets wider.
    """
    wanted = math.floor(fraction * quantized.model.arch.num_layers)
    if wanted == 0:
        return frozenset()
    formats = {name: quantized.activations[name] for name in down_inputs(quantized)}
    costs = per_element(quantized, windows, rounding_costs(quantized, windows, formats, track=track))
    return frozenset(sorted(costs, key=lambda name: costs[name], reverse=True)[:wanted])


def down_inputs(quantized: QuantizedModel) -> list[str]:
    """The down_proj inputs that have 8 bits, in layer order."""
    arch = quantized.model.arch
    names = [point.at(layer, point.down_input(arch)) for layer in range(arch.num_layers)]
    return [name for name in names if quantized.activations[name].qtype != INT16]


def per_element(quantized: QuantizedModel, windows: Tensor, costs: Mapping[str, float]) -> dict[str, float]:
    """Each point's cost divided by its elements per token, with windows (N, T) in view."""
    seen = windows.shape[1] + (len(quantized.prefix) if quantized.prefix else 0)
    return {name: cost / elements_per_token(quantized.model.arch, name, seen=seen) for name, cost in costs.items()}


@torch.inference_mode()
def rounding_costs(
    quantized: QuantizedModel, windows: Tensor, formats: Mapping[str, QParams], *, track: Track = silent
) -> dict[str, float]:
    """Mean KL(float ‖ float with one point of a block rounded), nats per token over windows (N, T), for each point of
    ``formats``.
    """
    model, prefix = quantized.model, quantized.prefix
    passes = [_residuals(model, window, prefix) for window in windows]
    references = [Reference.of(head(model, residuals[-1])[0]) for residuals in passes]

    def cost(name: str) -> float:
        layer, tap, total = point.layer_of(name), _rounding_alone(name, formats[name]), 0.0
        for residuals, reference in zip(passes, references, strict=True):
            hidden = blocks(model, residuals[layer], first=layer, tap=tap, prefix=prefix)
            total += reference.divergence(head(model, hidden)[0])
        return total / len(windows)

    return {name: cost(name) for name in track(list(formats), "16-bit choice", len(formats))}


def _residuals(model: Model, window: Tensor, prefix: KVPrefix | None) -> list[Tensor]:
    """What stands before each block, and behind the last: (1, T, C) each."""
    residuals = [embed(model, window[None], start=len(prefix) if prefix else 0)]
    for layer in range(model.arch.num_layers):
        residuals.append(block(model, layer, residuals[-1], prefix=prefix))
    return residuals


def sixteen_bit_ranges(
    quantized: QuantizedModel, windows: Tensor, points: frozenset[str], *, margin: float = 1.1, track: Track = silent
) -> dict[str, QParams]:
    """Symmetric int16 for each of ``points``, over its extremes on windows (N, T), times a margin."""
    if not points:
        return {}
    needs: Mapping[str, Need] = {name: Need("minmax", name) for name in sorted(points)}
    stats = collect(
        quantized.model, windows, needs.values(), prefix=quantized.prefix, task="16-bit ranges", track=track
    )
    return {name: symmetric(margin * max(-stats[need].low, stats[need].high), INT16) for name, need in needs.items()}


def _rounding_alone(point_name: str, qparams: QParams) -> Tap:
    """The tap that rounds one point and lets all others through."""
    return lambda name, value: fake_quantize(value, qparams) if name == point_name else value
