"""Move the mean of the values out of attention: the model computes the same function with values around zero.

Probabilities of a row sum to one, so a constant vector μ that is taken from every value comes back whole behind the
product and may be added to the output's bias instead:

    softmax(s)·V·Wᵀ + b  =  softmax(s)·(V − 1μᵀ)·Wᵀ + (b + W·μ)

Rounded probabilities do not sum to one: small ones are lost. With centered values the lost mass no longer takes the
mean with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture


def center_values(tensors: Mapping[str, Tensor], arch: Architecture, layer: int, mean: Tensor) -> dict[str, Tensor]:
    """The changed biases of v and o in one layer; ``mean`` (G·D) is what every value loses.

    Raises:
        ValueError: the mean has another number of channels.
    """
    channels = arch.num_kv_heads * arch.head_dim
    if tuple(mean.shape) != (channels,):
        raise ValueError(f"the mean of layer {layer} has the shape {tuple(mean.shape)}, expected ({channels},)")
    v, o = point.at(layer, "v"), point.at(layer, "o")
    weight = tensors[f"{o}.weight"]
    per_query = mean.double().view(arch.num_kv_heads, 1, arch.head_dim).expand(-1, arch.queries_per_kv, -1).flatten()
    moved = (weight.double() @ per_query).to(weight)
    return {
        f"{v}.bias": _bias(tensors, v) - mean.to(weight),
        f"{o}.bias": _bias(tensors, o) + moved,
    }


def _bias(tensors: Mapping[str, Tensor], module: str) -> Tensor:
    weight = tensors[f"{module}.weight"]
    return tensors.get(f"{module}.bias", weight.new_zeros(weight.shape[0]))
