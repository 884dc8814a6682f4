"""A loaded model: resolved architecture, canonical tensors, and where its tokenizer lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture


class Past(Protocol):
    """What stands in the KV cache in front of the tokens of a forward pass: ``len`` entries.

    ``num_constant`` of them, the first ones, stay visible beyond a sliding window.
    """

    @property
    def num_constant(self) -> int:
        """How many entries are constant."""
        ...

    def __len__(self) -> int: ...

    def joined(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (B, Hkv, S, D) of a layer: the entries, then those of the tokens (B, Hkv, T, D)."""
        ...


@dataclass(frozen=True)
class KVPrefix:
    """Constant first entries of every KV cache, computed once from ``tokens`` (PrefixQuant, arXiv 2410.05265).

    keys[layer], values[layer]: (Hkv, P, D) float32; keys as they lie in the cache, after norm and RoPE.
    """

    tokens: tuple[int, ...]
    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def num_constant(self) -> int:
        """All of them are."""
        return len(self)

    def joined(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same entries in front of every sequence of the batch."""
        return _prepended(self.keys[layer], keys), _prepended(self.values[layer], values)

    def to(self, device: str | torch.device) -> KVPrefix:
        """A copy on another device."""
        keys, values = (tuple(each.to(device) for each in side) for side in (self.keys, self.values))
        return replace(self, keys=keys, values=values)


def _prepended(constant: torch.Tensor, heads: torch.Tensor) -> torch.Tensor:
    batch = constant.to(heads).expand(heads.shape[0], -1, -1, -1)
    return torch.cat((batch, heads), dim=2)


@dataclass(frozen=True)
class Model:
    """Weights by canonical name (see ``arch.point``), all floating point, all of one dtype.

    Names: ``embed.weight`` (V, C); ``layers.{i}.{attn_norm,mlp_norm,attn_post_norm,mlp_post_norm}.{weight,bias}``;
    ``layers.{i}.{q_norm,k_norm}.weight`` (D); ``layers.{i}.{q,k,v,o,gate,up,down}.{weight,bias}``;
    ``positions.weight`` where positions are learned; ``final_norm.{weight,bias}``; ``lm_head.{weight,bias}``
    (for a tied head ``lm_head.weight`` is the same tensor object as ``embed.weight``). Transforms may add
    ``residual.scale`` (C): the residual stream carries its channels divided by it, and the norms that read it multiply;
    ``embed.column_scale`` (C): the columns of a tied embedding are multiplied by it, and a row looked up is divided;
    ``layers.{i}.{q_norm,k_norm}.input_scale`` (D): q or k has each head divided by it, and the head norm multiplies.
    While it lasts, training adds ``<linear>.output_factor`` (O,), which multiplies what the matrix gives, in front of
    the bias: a factor of rows whose gradient needs no product of matrices; and ``layers.{i}.rope_factors`` (2, T, D'),
    the table of RoPE, for a block that is compiled and may not make it. It may add
    ``layers.{i}.{prefix_keys,prefix_values}`` (Hkv, P, D): the constant entries of the cache, where these are no longer
    what the prefix tokens give.
    """

    arch: Architecture
    tensors: dict[str, torch.Tensor]
    tokenizer_dir: Path | None = None
    source: str = ""

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.tensors["embed.weight"].device

    def weight(self, linear: str) -> torch.Tensor:
        """The (O, I) matrix of a linear."""
        return self.tensors[f"{linear}.weight"]

    def bias(self, linear: str) -> torch.Tensor | None:
        """The (O,) bias of a linear or norm, or None."""
        return self.tensors.get(f"{linear}.bias")

    @property
    def residual_scale(self) -> torch.Tensor | None:
        """What a channel of the residual stream must be multiplied by to be what the family defines: (C,), or None."""
        return self.tensors.get(point.RESIDUAL_SCALE)

    def with_tensors(self, changed: dict[str, torch.Tensor]) -> Model:
        """The same model with some tensors replaced; a tied head stays tied unless only one side changes."""
        tensors = {**self.tensors, **changed}
        tied = tensors["lm_head.weight"] is tensors["embed.weight"]
        return replace(self, tensors=tensors, arch=replace(self.arch, tied_head=tied))

    def with_rms_norms(self) -> Model:
        """The same model with RMSNorms for LayerNorms, without their biases; for when both compute the same."""
        kept = {name: tensor for name, tensor in self.tensors.items() if not name.endswith("norm.bias")}
        return replace(self, tensors=kept, arch=replace(self.arch, norm="rms"))

    def to(self, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Model:
        """A copy on another device or in another dtype; a tied head stays tied."""
        moved = {name: tensor.to(device=device, dtype=dtype) for name, tensor in self.tensors.items()}
        if self.arch.tied_head:
            moved["lm_head.weight"] = moved["embed.weight"]
        return replace(self, tensors=moved)

    def linears(self) -> list[str]:
        """Names of all weight matrices that multiply activations, in running order."""
        return list(point.all_linears(self.arch))

    def tables(self) -> list[str]:
        """Names of all matrices whose rows are looked up: the embedding and, where learned, the positions."""
        return point.tables(self.arch)
