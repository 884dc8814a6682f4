"""How much an error in one channel of an activation weighs in the output of the linear that reads it.

With y = W·x an error e_j of channel j costs ‖W[:, j]‖² · e_j². Plain mean squared error takes all columns for equal,
which is wrong as soon as a transform has divided channels of x and multiplied the columns instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.models.model import Model


def readers(arch: Architecture, name: str) -> tuple[str, ...]:
    """The linears in whose output an error of the point shows channel by channel; empty where there are none.

    ``up`` (behind a gate) and ``v`` reach theirs through an elementwise product and a mean over tokens.
    """
    if name == point.FINAL_NORM:
        return (point.LM_HEAD,)
    if not name.startswith("layers."):
        return ()
    block, role = name.rsplit(".", 1)
    through = {"up": "down", "v": "o"} if arch.gated_mlp else {"v": "o"}
    if role in through:
        return (f"{block}.{through[role]}",)
    return tuple(f"{block}.{linear}" for linear in point.linear_roles(arch) if point.input_role(arch, linear) == role)


def channel_importance(model: Model, name: str) -> Tensor:
    """Squared column norms (C,) of the readers of a point, mean 1, float64; (1,) of ones where nothing is known."""
    columns = [model.weight(linear).double().square().sum(dim=0) for linear in readers(model.arch, name)]
    if not columns:
        return torch.ones(1, dtype=torch.float64)
    norms = torch.stack(columns).sum(dim=0)
    if point.role_of(name) == "v":  # every query head of a group reads the same value channel
        arch = model.arch
        norms = norms.view(arch.num_kv_heads, arch.queries_per_kv, arch.head_dim).sum(dim=1).flatten()
    mean = norms.mean()
    return norms / mean if mean > 0 else torch.ones_like(norms)
