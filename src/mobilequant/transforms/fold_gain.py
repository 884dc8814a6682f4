"""Norms without gains: what a norm in front of linears multiplies and adds moves into the linears.

W(γ ⊙ n + β) + b  =  (W·diag(γ))·n + (b + W·β)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.arch.pair import scale_pairs


def fold_gains(tensors: Mapping[str, Tensor], arch: Architecture, part: str | None = None) -> dict[str, Tensor]:
    """The changed tensors when all norms that read the residual have gain one and, where they had one, bias zero.

    A tied head is untied by it: only the head reads what the final norm multiplies. ``part``: only what lies there.
    """
    changed: dict[str, Tensor] = {}
    for norm, readers in norm_readers(arch, part).items():
        gain, bias = tensors[f"{norm}.weight"], tensors.get(f"{norm}.bias")
        for reader in readers:
            changed |= _read_plain(tensors, reader, gain, bias)
        changed[f"{norm}.weight"] = torch.ones_like(gain)
        if bias is not None:
            changed[f"{norm}.bias"] = torch.zeros_like(bias)
    return changed


def norm_readers(arch: Architecture, part: str | None = None) -> dict[str, tuple[str, ...]]:
    """Every norm that reads the residual stream (in a part, where one is given), and the linears that read the norm."""
    pairs = [pair for pair in scale_pairs(arch) if pair.kind.startswith("norm_to_")]
    return {norm: pair.consumers for pair in pairs for norm in point.within(part, pair.producers)}


def _read_plain(tensors: Mapping[str, Tensor], reader: str, gain: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
    """A linear that did read γ ⊙ n + β and now reads n."""
    weight = tensors[f"{reader}.weight"]
    folded = {f"{reader}.weight": (weight.double() * gain.double()).to(weight)}
    if bias is None:
        return folded
    moved, own = weight.double() @ bias.double(), tensors.get(f"{reader}.bias")
    return folded | {f"{reader}.bias": (moved if own is None else own.double() + moved).to(weight)}
