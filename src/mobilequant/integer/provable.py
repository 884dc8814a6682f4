"""The last change before lowering: what would overflow an int32 accumulator is made coarser until it provably fits.

Methods do not look at accumulators, and simulation must see what the integers will be, so this stands between both.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.integer.bound import widest_symmetric_code
from mobilequant.models.quantized import QuantizedModel
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import INT16
from mobilequant.numerics.weight import QuantizedWeight

_LARGEST_BIAS = 1 << 29  # in steps of the accumulator, of which it leaves three quarters to the products


def provable(quantized: QuantizedModel) -> QuantizedModel:
    """The same model with coarser rows where a bias dwarfs the weights, and narrower 16-bit inputs of linears.

    A matrix that serves as embedding too (a tied head) is never changed.
    """
    weights = {name: _row_steps(quantized, name, weight) for name, weight in quantized.weights.items()}
    quantized = replace(quantized, weights=weights)
    return replace(quantized, activations=_narrowed(quantized))


def _row_steps(quantized: QuantizedModel, name: str, weight: QuantizedWeight) -> QuantizedWeight:
    bias = quantized.model.bias(name)
    if bias is None or weight is quantized.weights[point.EMBED]:
        return weight
    step = quantized.activations[point.input_of(quantized.model.arch, name)].scale
    return with_room_for_bias(weight, bias, step)


def with_room_for_bias(weight: QuantizedWeight, bias: Tensor, input_scale: float) -> QuantizedWeight:
    """Rows whose real bias (O,) takes more than 2^29 steps of the accumulator get the scale at which it takes 2^29.

    A weight then moves by at most half a step: what it adds changes by less than 2^−22 of the bias where the input has
    8 bits, 2^−15 where it has 16. Group multipliers shrink as the scale grows.
    """
    floor = (bias.double().abs() / (_LARGEST_BIAS * input_scale)).to(weight.scale)
    coarse = floor > weight.scale
    if not bool(coarse.any()):
        return weight
    coarser = replace(weight, scale=torch.where(coarse, floor, weight.scale))
    if weight.group_multiplier is not None:
        wanted = weight.group_multiplier * (weight.scale / coarser.scale)[:, None]
        coarser = replace(coarser, group_multiplier=wanted.ceil().clamp(min=1).to(torch.uint8))
    codes = torch.floor(weight.dequantize() / coarser.element_scale() + 0.5).to(torch.int8)
    return replace(coarser, codes=torch.where(coarse[:, None], codes, weight.codes))


def _narrowed(quantized: QuantizedModel) -> dict[str, QParams]:
    """The activation parameters, with 16-bit inputs of linears narrowed until their accumulators provably fit int32.

    A narrowed tensor keeps its range and gets a coarser step: fewer than 16 effective bits, never an overflow.
    """
    activations = dict(quantized.activations)
    for linear in quantized.model.linears():
        source = point.input_of(quantized.model.arch, linear)
        if activations[source].qtype.storage != INT16.storage:
            continue
        weight = quantized.weights[linear]
        multiplier = None if weight.group_multiplier is None else weight.group_multiplier.numpy()
        q, bias = activations[source], quantized.model.bias(linear)
        per_code = None if bias is None else (bias.double() / weight.scale.double()).numpy() / (q.scale * q.qtype.qmax)
        widest = widest_symmetric_code(weight.codes.numpy(), multiplier, per_code)
        if widest < q.qtype.qmax:
            narrow = replace(INT16, qmin=-widest, qmax=widest)
            activations[source] = QParams(q.scale * q.qtype.qmax / widest, 0, narrow)
    return activations
