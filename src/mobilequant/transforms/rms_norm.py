"""LayerNorm as RMSNorm: who writes the residual leaves out the mean that every LayerNorm would subtract.

    layer_norm(h)  =  rms_norm(h − mean(h)),    h − mean(h)  =  Σ (writers − their mean over channels)(…)

(SliceGPT, arXiv 2401.15024, §3.2.)
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture


def to_rms_norm(tensors: Mapping[str, Tensor], arch: Architecture, part: str | None = None) -> dict[str, Tensor]:
    """The changed tensors when the channels of the residual have mean zero: then ``Model.with_rms_norms`` is the same
    function. An RMSNorm has no bias, so this comes behind ``fold_gains``. A tied head is untied by it. ``part``: only
    what lies there.

    Raises:
        ValueError: the norms have biases, or are RMSNorms already; or a norm or a scale stands between the linears and
            the residual.
    """
    _require_plain_layer_norm(tensors, arch)
    changed = {
        f"{name}.weight": _centered(tensors[f"{name}.weight"], dim=1) for name in point.within(part, point.tables(arch))
    }
    for module in point.within(part, point.residual_writers(arch)):
        for name in (f"{module}.weight", f"{module}.bias"):
            if name in tensors:
                changed[name] = _centered(tensors[name], dim=0)
    return changed


def _centered(tensor: Tensor, *, dim: int) -> Tensor:
    exact = tensor.double()
    return (exact - exact.mean(dim, keepdim=True)).to(tensor)


def _require_plain_layer_norm(tensors: Mapping[str, Tensor], arch: Architecture) -> None:
    if arch.norm != "layer" or arch.post_norms:
        raise ValueError(f"the norms of {arch.family} are no LayerNorms of the residual alone")
    scales = [name for name in (point.RESIDUAL_SCALE, point.COLUMN_SCALE) if name in tensors]
    if scales:
        raise ValueError(f"{scales[0]} has other units per channel, and a mean over channels has none")
    biased = [name for name, tensor in tensors.items() if name.endswith("norm.bias") and bool(tensor.any())]
    if biased:
        raise ValueError(f"{biased[0]} is not zero; fold gains and biases first")
