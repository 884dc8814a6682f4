"""The models that are compared: functions from token ids (B, T) to real logits, all given the same tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from mobilequant.data.window import after_prefix
from mobilequant.engine.engine import Engine
from mobilequant.evaluate.score import Executor
from mobilequant.integer.interpreter import Interpreter
from mobilequant.models.decoder import Tap, compute_prefix, forward, untouched
from mobilequant.models.model import KVPrefix, Model
from mobilequant.models.quantized import QuantizedModel
from mobilequant.numerics.qtype import UINT8


def executors(source: Model, quantized: QuantizedModel, integer: Executor, bos: int | None) -> dict[str, Executor]:
    """By name: float, float_prefix (only where there is a prefix: the control), fake_quant, integer."""
    tokens = quantized.prefix.tokens if quantized.prefix else ()
    found = {"float": float_executor(source, None, bos)}
    if tokens:
        found["float_prefix"] = float_executor(source, compute_prefix(source, tokens), bos)
    return {
        **found,
        "fake_quant": fake_quant_executor(quantized, bos),
        "integer": integer,
    }


def float_executor(model: Model, prefix: KVPrefix | None, bos: int | None, tap: Tap = untouched) -> Executor:
    """The float model, with or without a constant prefix, and with whatever ``tap`` does to its activations."""
    tokens = prefix.tokens if prefix else ()
    return lambda ids: forward(model, after_prefix(ids, tokens, bos), tap=tap, prefix=prefix)


def fake_quant_executor(quantized: QuantizedModel, bos: int | None) -> Executor:
    """Rounded weights and activations, computed in floating point."""
    return _simulated(quantized, quantized.tap(), bos)


def integer_executor(interpreter: Interpreter, bos: int | None) -> Executor:
    """The integer graph, by the reference interpreter; its logits become real only to be scored."""
    tokens = interpreter.graph.prefix_tokens
    return lambda ids: interpreter.logits(after_prefix(ids, tokens, bos))


def engine_executor(engine: Engine, bos: int | None) -> Executor:
    """The integer graph, by the engine: the same logits, sequence after sequence."""

    def logits(ids: Tensor) -> Tensor:
        sequences = after_prefix(ids, engine.prefix_tokens, bos).numpy()
        rows = [torch.from_numpy(engine.session(len(row)).run(row)).to(torch.float32) for row in sequences]
        return torch.stack(rows) * engine.logits_scale

    return logits


def dynamic_executor(quantized: QuantizedModel, bos: int | None) -> Executor:
    """Rounded weights; activations of 8 bits rounded over the extremes of each token (and head), those of 16 bits as
    they are: the upper bound of what static ranges can reach."""
    static = quantized.activations

    def tap(name: str, value: Tensor) -> Tensor:
        return rounded_per_token(value) if name in static and static[name].qtype == UINT8 else value

    return _simulated(quantized, tap, bos)


def _simulated(quantized: QuantizedModel, tap: Tap, bos: int | None) -> Executor:
    return float_executor(quantized.simulated(), quantized.simulated_prefix(), bos, tap)


def rounded_per_token(value: Tensor) -> Tensor:
    """Each row (…, C) on 256 steps from its least to its largest value, zero among them."""
    low, high = value.amin(-1, keepdim=True).clamp(max=0.0), value.amax(-1, keepdim=True).clamp(min=0.0)
    scale = ((high - low) / 255).clamp_min(1e-12)
    zero_point = torch.round(-low / scale)
    return (torch.clamp(torch.floor(value / scale + 0.5) + zero_point, 0, 255) - zero_point) * scale
