"""Which down_proj inputs deserve 16 bits: the few whose rounding moves the logits most.

Two stages: a proxy for every layer from one float pass (how much noise the rounded input leaves on the residual), then
the Kullback–Leibler divergence of the logits for the layers that the proxy puts first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.models.decoder import Tap, forward
from mobilequant.models.model import Model
from mobilequant.models.quantized import QuantizedModel, fake_quantize
from mobilequant.numerics.qparams import symmetric
from mobilequant.numerics.qtype import INT16
from mobilequant.observe.collect import collect
from mobilequant.pipeline.method import Need
from mobilequant.pipeline.progress import Track, silent

_CANDIDATES_PER_CHOICE = 2  # how many layers per wanted one get the exact measure


def choose_sixteen_bit(
    quantized: QuantizedModel, windows: Tensor, *, fraction: float = 0.1, track: Track = silent
) -> frozenset[str]:
    """At most ⌊fraction · layers⌋ down_proj inputs whose 8-bit rounding costs the most KL on windows (N, T).

    Points whose wider format would not lower the divergence are left out.
    """
    wanted = math.floor(fraction * quantized.model.arch.num_layers)
    if wanted == 0:
        return frozenset()
    noise = relative_noise(quantized, windows)
    candidates = sorted(noise, key=lambda name: noise[name], reverse=True)[: _CANDIDATES_PER_CHOICE * wanted]
    gains = kl_gains(quantized, windows, candidates, track=track)
    best = sorted(gains, key=lambda name: gains[name], reverse=True)[:wanted]
    return frozenset(name for name in best if gains[name] > 0)


def down_inputs(quantized: QuantizedModel) -> list[str]:
    """The down_proj inputs that have 8 bits, in layer order."""
    arch = quantized.model.arch
    names = [point.at(layer, point.down_input(arch)) for layer in range(arch.num_layers)]
    return [name for name in names if quantized.activations[name].qtype != INT16]


@torch.inference_mode()
def relative_noise(quantized: QuantizedModel, windows: Tensor) -> dict[str, float]:
    """Energy of the error that each rounded down_proj input alone leaves on its residual, relative to it."""
    model, inputs = quantized.model, frozenset(down_inputs(quantized))
    noise = dict.fromkeys(inputs, 0.0)
    energy = dict.fromkeys(inputs, 0.0)

    def measure(name: str, value: Tensor) -> Tensor:
        layer = name.rsplit(".", 1)[0]
        if name in inputs:
            error = fake_quantize(value, quantized.activations[name]) - value
            noise[name] += (error @ model.weight(f"{layer}.down").T).square().sum().item()
        elif point.role_of(name) == "mlp_residual":
            source = f"{layer}.{point.down_input(model.arch)}"
            if source in energy:
                energy[source] += value.square().sum().item()
        return value

    for window in windows:
        forward(model, window[None], tap=measure, prefix=quantized.prefix)
    return {name: noise[name] / max(energy[name], 1e-30) for name in sorted(inputs)}


@torch.inference_mode()
def kl_gains(
    quantized: QuantizedModel, windows: Tensor, candidates: list[str], *, track: Track = silent
) -> dict[str, float]:
    """How far the mean KL(float ‖ simulated) in nats per token falls when one point alone stays unrounded."""
    simulated, prefix = quantized.simulated(), quantized.simulated_prefix()
    reference = [_log_probabilities(quantized.model, window, quantized) for window in windows]

    def divergence(tap: Tap) -> float:
        total = 0.0
        for window, expected in zip(windows, reference, strict=True):
            found = forward(simulated, window[None], tap=tap, prefix=prefix)[0].log_softmax(-1)
            total += (expected.exp() * (expected - found)).sum(-1).mean().item()
        return total / len(windows)

    base = divergence(quantized.tap())
    return {name: base - divergence(_without(quantized, name)) for name in track(candidates, "16 bit", len(candidates))}


def widen_to_sixteen_bit(
    quantized: QuantizedModel, windows: Tensor, points: frozenset[str], *, margin: float = 1.25, track: Track = silent
) -> QuantizedModel:
    """The same model with ``points`` in symmetric int16 over their extremes on windows (N, T), times a margin."""
    needs: Mapping[str, Need] = {name: Need("minmax", name) for name in sorted(points)}
    stats = collect(quantized.model, windows, needs.values(), prefix=quantized.prefix, track=track)
    wide = {name: symmetric(margin * max(-stats[need].low, stats[need].high), INT16) for name, need in needs.items()}
    scheme = quantized.scheme.with_sixteen_bit(points)
    return replace(quantized, scheme=scheme, activations={**quantized.activations, **wide})


def _log_probabilities(model: Model, window: Tensor, quantized: QuantizedModel) -> Tensor:
    return forward(model, window[None], prefix=quantized.prefix)[0].log_softmax(-1)


def _without(quantized: QuantizedModel, free: str) -> Tap:
    """The rounding tap that lets one point through."""
    rounding = quantized.tap()

    def tap(name: str, value: Tensor) -> Tensor:
        return value if name == free else rounding(name, value)

    return tap
