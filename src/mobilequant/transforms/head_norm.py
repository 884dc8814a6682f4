"""One factor per dimension of the heads in front of a head norm: the projection divides, the norm multiplies.

norm(q)  →  norm(s · (q / s)),      s (D,) the same for every head of a layer
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.transforms.scale import scale_outputs


def scale_head_norm_input(
    tensors: Mapping[str, Tensor], arch: Architecture, layer: int, role: Literal["q", "k"], scale: Tensor
) -> dict[str, Tensor]:
    """The changed tensors when q or k of a layer is divided by ``scale`` (D,), on top of what divides it already.

    Raises:
        ValueError: the model has no head norms, or the scale another number of dimensions.
    """
    if not arch.qk_norm or tuple(scale.shape) != (arch.head_dim,):
        raise ValueError(f"layer {layer} cannot take a scale of shape {tuple(scale.shape)} in front of its {role}_norm")
    module, stored = point.at(layer, role), f"{point.at(layer, role)}_norm.{point.INPUT_SCALE}"
    heads = len(tensors[f"{module}.weight"]) // arch.head_dim
    total = scale.to(tensors[f"{module}.weight"])
    so_far = tensors.get(stored)
    changed = scale_outputs(tensors, module, (1 / scale.double()).repeat(heads))
    return changed | {stored: total if so_far is None else so_far * total}
