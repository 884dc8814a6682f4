"""One factor per dimension of the heads in front of a head norm: the projection divides, the norm multiplies.

norm(q)  →  norm(s · (q / s)),      s (D,) the same for every head of a layer
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.transforms.scale import check_scale, remembered, scale_outputs


def scale_head_norm_input(
    tensors: Mapping[str, Tensor], arch: Architecture, layer: int, role: Literal["q", "k"], scale: Tensor
) -> dict[str, Tensor]:
    """The changed tensors when q or k of a layer is divided by ``scale`` (D,), on top of what divides it already.

    Raises:
        ValueError: the model has no head norms; or the scale has another number of dimensions, or is not positive and
            finite.
    """
    module, norm = point.at(layer, role), point.at(layer, f"{role}_norm")
    if not arch.qk_norm:
        raise ValueError(f"this model has no {norm}")
    check_scale(norm, scale, arch.head_dim)
    weight = tensors[f"{module}.weight"]
    heads = len(weight) // arch.head_dim
    changed = scale_outputs(tensors, module, (1 / scale.double()).repeat(heads))
    return changed | remembered(tensors, f"{norm}.{point.INPUT_SCALE}", scale.to(weight))
