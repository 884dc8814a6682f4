"""The growing KV cache of a batch of sequences that are continued token by token, in floating point."""

from __future__ import annotations

import torch
from torch import Tensor

from mobilequant.models.decoder import forward
from mobilequant.models.model import KVPrefix, Model


class KVCache:
    """Keys and values (L, 2, B, Hkv, room, D) of B sequences of equal length; room is allocated once.

    Behind a constant prefix the entries of the sequences follow, and these leave a sliding window as any token does.
    """

    def __init__(self, model: Model, batch: int, room: int, prefix: KVPrefix | None = None) -> None:
        """``room``: tokens of a sequence, those of the prefix not counted."""
        arch, like = model.arch, model.tensors["embed.weight"]
        self._length = self._num_constant = len(prefix) if prefix else 0
        shape = (arch.num_layers, 2, batch, arch.num_kv_heads, self._length + room, arch.head_dim)
        self._entries = torch.empty(shape, device=like.device, dtype=like.dtype)
        if prefix:
            for layer, entries in enumerate(zip(prefix.keys, prefix.values, strict=True)):
                self._entries[layer, :, :, :, : self._length] = torch.stack(entries)[:, None]

    def __len__(self) -> int:
        return self._length

    @property
    def num_constant(self) -> int:
        """Entries of the prefix."""
        return self._num_constant

    def joined(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """What the cache holds with the keys and values of new tokens (B, Hkv, T, D) behind it, which it takes in."""
        end = self._length + keys.shape[2]
        self._entries[layer, 0, :, :, self._length : end] = keys
        self._entries[layer, 1, :, :, self._length : end] = values
        known = self._entries[layer, :, :, :, :end]
        return known[0], known[1]

    def logits(self, model: Model, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of the next tokens (B, T) of the sequences; the cache then holds these too."""
        found = forward(model, tokens, prefix=self)
        self._length += tokens.shape[1]
        return found
