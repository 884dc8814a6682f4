"""Fold a free scale into the tensors of a scale pair: the model computes the same function with other ranges."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.arch.pair import ScalePair, consumer_index, producer_index


def fold(tensors: Mapping[str, Tensor], arch: Architecture, pair: ScalePair, scale: Tensor) -> dict[str, Tensor]:
    """The changed tensors of Y = (X S⁻¹)(S W): producers divided, consumers multiplied.

    scale: (pair.num_channels,), positive and finite. Raises ValueError for any other scale.
    """
    check_scale(pair.name, scale, pair.num_channels)
    exact = scale.double()  # so that 1/s and s cancel as well as the tensors' own dtype allows
    reciprocal = expand(1 / exact, producer_index(arch, pair))
    factor = expand(exact, consumer_index(arch, pair))
    rows, columns = (factor, None) if pair.consumer_axis == "output" else (None, factor)
    changed: dict[str, Tensor] = {}
    for module in pair.producers:
        changed |= rescaled(tensors, module, reciprocal, None)
    for module in pair.consumers:
        changed |= rescaled(tensors, module, rows, columns)
    return changed | _tied_embedding(tensors, changed, factor) if pair.tied else changed


def check_scale(where: str, scale: Tensor, channels: int) -> None:
    """Raise ValueError unless ``scale`` is (channels,), positive and finite."""
    if tuple(scale.shape) != (channels,):
        raise ValueError(f"{where} takes a scale of shape ({channels},), not {tuple(scale.shape)}")
    if not bool((torch.isfinite(scale) & (scale > 0)).all()):
        raise ValueError(f"{where}: every scale must be positive and finite")


def remembered(tensors: Mapping[str, Tensor], name: str, factor: Tensor) -> dict[str, Tensor]:
    """The tensor ``name``, by which readers undo a scale, times one more factor."""
    so_far = tensors.get(name)
    return {name: factor if so_far is None else so_far * factor}


def expand(scale: Tensor, index: list[int]) -> Tensor:
    """One number per channel from the free scale."""
    return scale[torch.tensor(index, device=scale.device)]


def reduce_max(channels: Tensor, index: list[int], num_channels: int) -> Tensor:
    """The largest of the channels that share an entry of the free scale: (C,) → (num_channels,)."""
    target = torch.tensor(index, device=channels.device)
    start = channels.new_full((num_channels,), -torch.inf)
    return start.scatter_reduce(0, target, channels, "amax")


def _tied_embedding(tensors: Mapping[str, Tensor], changed: Mapping[str, Tensor], factor: Tensor) -> dict[str, Tensor]:
    """The embedding stays one object with lm_head, and remembers what its columns were multiplied by."""
    head = changed[f"{point.LM_HEAD}.weight"]
    return {f"{point.EMBED}.weight": head} | remembered(tensors, point.COLUMN_SCALE, factor.to(head))


def rescaled(
    tensors: Mapping[str, Tensor], module: str, rows: Tensor | None, columns: Tensor | None
) -> dict[str, Tensor]:
    """A module with its weight rows (or gains) and bias times ``rows`` (O,), and its columns times ``columns`` (I,)."""
    scaled = {f"{module}.weight": tensors[f"{module}.weight"]} if rows is None else scale_outputs(tensors, module, rows)
    if columns is not None:
        weight = scaled[f"{module}.weight"]
        scaled[f"{module}.weight"] = weight * columns.to(weight)
    return scaled


def scale_outputs(tensors: Mapping[str, Tensor], module: str, factor: Tensor) -> dict[str, Tensor]:
    """Weight rows (or gains) and, where there is one, the bias of a module times ``factor`` (O,)."""
    scaled: dict[str, Tensor] = {}
    for name in (f"{module}.weight", f"{module}.bias"):
        if name in tensors:
            tensor = tensors[name]
            scaled[name] = tensor * factor.to(tensor).view(-1, *(1,) * (tensor.dim() - 1))
    return scaled
