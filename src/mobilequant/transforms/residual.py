"""One factor per channel of the residual stream: whoever writes it divides, the norms that read it multiply.

    h = Σ writers(…),    norm(h)   →   h / s = Σ (writers / s)(…),    norm(s · (h / s))

The same s holds in every layer, so additions need to know nothing of it. Factors that are powers of two are exact in
floating point and shifts in integers (Power-of-Two Factor, FQ-ViT, arXiv 2111.13824, there for LayerNorm inputs).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.transforms.scale import check_scale, remembered, scale_outputs


def scale_residual(
    tensors: Mapping[str, Tensor], arch: Architecture, scale: Tensor, part: str | None = None
) -> dict[str, Tensor]:
    """The changed tensors when the residual stream is divided by ``scale`` (C,), on top of what divides it already.

    part: only what lies there; the factor itself is no part of a block.

    Raises:
        ValueError: the scale has another number of channels, or is not positive and finite.
    """
    check_scale("the residual", scale, arch.hidden_size)
    changed: dict[str, Tensor] = {}
    for module in point.within(part, point.residual_writers(arch)):
        changed |= scale_outputs(tensors, module, 1 / scale.double())
    if part not in (None, point.HEAD):
        return changed
    return changed | remembered(tensors, point.RESIDUAL_SCALE, scale.to(tensors["embed.weight"]))
