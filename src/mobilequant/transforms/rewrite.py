"""Rewrites, told by what they take: carried out a part of the model at a time, so that no second copy of it is needed.

    kind                    where             factor
    fold_gains              –                 –                     gains of all norms into the linears behind them
    to_rms_norm             –                 –                     LayerNorms of the residual as RMSNorms
    rotate_residual         –                 (C, C)                R1
    rotate_values           "layers.3"        (G, D, D)             R2
    rotate_keys             "layers.3"        (G, P)                the angles of Tₖ
    fold                    name of a pair    (num_channels,)       a scale pair
    scale_residual          –                 (C,)                  one factor per channel of the residual
    scale_head_norm_input   "layers.3.q"      (D,)                  one factor per dimension of the heads

The rewrites themselves are in the files beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Literal, cast

from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.arch.pair import scale_pairs
from mobilequant.models.model import Model
from mobilequant.pipeline.method import Rewrite
from mobilequant.transforms.fold_gain import fold_gains
from mobilequant.transforms.head_norm import scale_head_norm_input
from mobilequant.transforms.residual import scale_residual
from mobilequant.transforms.rms_norm import to_rms_norm
from mobilequant.transforms.rotation import keys_in_basis, residual_in_basis, values_in_basis
from mobilequant.transforms.scale import fold

# From the tensors of the model as they are to those that change, at most a block of them.
Change = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def changes(rewrite: Rewrite, arch: Architecture) -> list[Change]:
    """The changes that make up a rewrite; each must see the tensors that those before it have left."""
    return _KINDS[rewrite.kind](arch, rewrite)


def rewritten(model: Model, rewrites: Iterable[Rewrite]) -> Model:
    """The model behind some rewrites, beside the one before."""
    for rewrite in rewrites:
        for change in changes(rewrite, model.arch):
            model = model.with_tensors(change(model.tensors))
    return model


def _everywhere(change: Callable[..., dict[str, Tensor]], arch: Architecture, *factor: Tensor) -> list[Change]:
    def of_part(part: str) -> Change:
        return lambda tensors: change(tensors, arch, *factor, part)

    return [of_part(part) for part in point.parts(arch)]


def _rotate_values(arch: Architecture, rewrite: Rewrite) -> list[Change]:
    layer = point.layer_of(rewrite.where)
    return [lambda tensors: values_in_basis(tensors, arch, layer, _factor(rewrite))]


def _rotate_keys(arch: Architecture, rewrite: Rewrite) -> list[Change]:
    layer, angle = point.layer_of(rewrite.where), _factor(rewrite)
    no_scale = angle.new_zeros(arch.num_kv_heads, arch.head_dim - angle.shape[1])
    return [lambda tensors: keys_in_basis(tensors, arch, layer, angle, no_scale)]


def _fold(arch: Architecture, rewrite: Rewrite) -> list[Change]:
    pair = next(pair for pair in scale_pairs(arch) if pair.name == rewrite.where)
    return [partial(fold, arch=arch, pair=pair, scale=_factor(rewrite))]


def _scale_head_norm_input(arch: Architecture, rewrite: Rewrite) -> list[Change]:
    layer, role = point.layer_of(rewrite.where), cast("Literal['q', 'k']", point.role_of(rewrite.where))
    return [lambda tensors: scale_head_norm_input(tensors, arch, layer, role, _factor(rewrite))]


def _factor(rewrite: Rewrite) -> Tensor:
    if rewrite.factor is None:
        raise ValueError(f"the rewrite {rewrite.kind!r} needs a factor")
    return rewrite.factor


_KINDS: dict[str, Callable[[Architecture, Rewrite], list[Change]]] = {
    "fold_gains": lambda arch, rewrite: _everywhere(fold_gains, arch),
    "to_rms_norm": lambda arch, rewrite: _everywhere(to_rms_norm, arch),
    "rotate_residual": lambda arch, rewrite: _everywhere(residual_in_basis, arch, _factor(rewrite)),
    "rotate_values": _rotate_values,
    "rotate_keys": _rotate_keys,
    "fold": _fold,
    "scale_residual": lambda arch, rewrite: _everywhere(scale_residual, arch, _factor(rewrite)),
    "scale_head_norm_input": _scale_head_norm_input,
}
