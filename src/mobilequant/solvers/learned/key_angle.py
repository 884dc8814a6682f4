"""Learned angles of queries and keys: the rotation that commutes with RoPE (FPTQuant's Tₖ, arXiv 2506.04985, §3), one
angle for each plane of a key/value head, shared by the query heads of its group. Its scale is the pair q_to_k."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.solvers.learned.piece import Tensors, leaf
from mobilequant.solvers.learned.rotation import TURN
from mobilequant.transforms.rotation import keys_in_basis, why_not_key_rotatable


class KeyAngles:
    """Radians (G, P) that start at zero, in every layer whose queries and keys can be turned."""

    def __init__(self, arch: Architecture, device: torch.device) -> None:
        self._arch = arch
        self._leaves: dict[str, Tensor] = {}
        for layer, each in enumerate(arch.layers):
            if each.rope and not why_not_key_rotatable(arch, layer):
                planes = each.rope.rotary_dim // 2
                self._leaves[f"layers.{layer}"] = leaf(torch.zeros(arch.num_kv_heads, planes, device=device))

    def parameters(self, part: str) -> Tensors:
        """One leaf per block."""
        return {f"{part}.k.{TURN}": self._leaves[part]} if part in self._leaves else {}

    def rewrite(self, tensors: Mapping[str, Tensor], part: str) -> Tensors:
        """The turned rows of q and k."""
        if part not in self._leaves:
            return {}
        angle = self._leaves[part]
        no_scale = angle.new_zeros(len(angle), self._arch.head_dim - angle.shape[1])
        return keys_in_basis(tensors, self._arch, point.layer_of(part), angle, no_scale)

    def rewrite_cache(self, keys: Tensor, values: Tensor, part: str) -> tuple[Tensor, Tensor]:
        """Keys (G, P, D) of the prefix, turned behind RoPE as their projections would have been in front of it."""
        if part not in self._leaves:
            return keys, values
        planes = self._leaves[part].shape[1]
        cos, sin = self._leaves[part].cos()[:, None], self._leaves[part].sin()[:, None]
        first, second, rest = keys.tensor_split((planes, 2 * planes), dim=-1)
        return torch.cat((cos * first - sin * second, sin * first + cos * second, rest), dim=-1), values

    @torch.no_grad()
    def finished(self) -> dict[int, Tensor]:
        """The angles by layer."""
        return {point.layer_of(part): angle.detach().clone() for part, angle in self._leaves.items()}
