"""Moving named tensors and weights to another device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

    from mobilequant.numerics.weight import QuantizedWeight

Placed = TypeVar("Placed", "torch.Tensor", "QuantizedWeight")


def on_device(named: Mapping[str, Placed], device: str | torch.device) -> dict[str, Placed]:
    """Copies on another device; what stands under two names (a tied head) stays one object."""
    moved = {id(item): item.to(device) for item in named.values()}
    return {name: moved[id(item)] for name, item in named.items()}
