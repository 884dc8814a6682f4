"""A quantized weight matrix: symmetric integer codes, one real scale per output channel, optional groups.

    real weight[o, i] = scale[o] · group_multiplier[o, i // group_size] · codes[o, i]

The group multipliers are small integers (1…255) so that groups are combined inside the accumulator:
a grouped linear needs no more than one rescale per output channel, exactly like a per-channel one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mobilequant.numerics.qtype import QType

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class QuantizedWeight:
    """Codes (O, I) int8, scale (O,) float32, group_multiplier (O, G) uint8 or None for per-channel."""

    codes: torch.Tensor
    scale: torch.Tensor
    qtype: QType
    group_multiplier: torch.Tensor | None = None

    @property
    def group_size(self) -> int | None:
        """Input channels per group, or None when the whole row is one group."""
        if self.group_multiplier is None:
            return None
        return self.codes.shape[1] // self.group_multiplier.shape[1]

    def to(self, device: str | torch.device) -> QuantizedWeight:
        """A copy on another device."""
        group = None if self.group_multiplier is None else self.group_multiplier.to(device)
        return replace(self, codes=self.codes.to(device), scale=self.scale.to(device), group_multiplier=group)

    def element_scale(self) -> torch.Tensor:
        """Real scale of every group: (O, 1) per channel, or (O, I) expanded over the groups."""
        scale = self.scale[:, None]
        if self.group_multiplier is None:
            return scale
        width = self.codes.shape[1] // self.group_multiplier.shape[1]
        return scale * self.group_multiplier.repeat_interleave(width, dim=1).to(scale.dtype)

    def dequantize(self) -> torch.Tensor:
        """The real matrix (O, I) float32 that the codes stand for."""
        return self.codes.to(self.scale.dtype) * self.element_scale()

    def stored_bits(self) -> int:
        """Bits on disk: packed codes, 40 bits of multiplier per output channel, 8 per group."""
        groups = 0 if self.group_multiplier is None else self.group_multiplier.numel()
        return self.codes.numel() * self.qtype.num_bits + self.scale.numel() * 40 + groups * 8
