"""Scheme: the precision of every role, under a name that decodes.

    static_w4c_a8_kv8      4-bit weights per output channel, static 8-bit activations, 8-bit KV cache
    static_w4g64_a8_kv8    the same with one scale per 64 input channels

Embedding and lm_head are always 8-bit per row. Which activations are 16-bit is an explicit list:
the fixed roles, single points beyond them, and less single points of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mobilequant.arch import point
from mobilequant.errors import UsageError
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import INT4, INT8, INT16, UINT8, QType

_NAME = re.compile(r"static_w(?P<bits>[48])(?P<grain>c|g(?P<group>[1-9]\d*))_a8_kv8")

_ALWAYS_8BIT = (point.EMBED, point.POSITIONS, point.LM_HEAD)

# The residual stream and what is added to it, the softmax input, and the logits. Each costs prefill time on an NPU.
SIXTEEN_BIT_ROLES = frozenset(
    {
        "embed", "attn_residual", "mlp_residual", "o", "down", "attn_post_norm", "mlp_post_norm",
        "scores", "capped", "logits", "capped_logits",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Scheme:
    """Bits of weights and activations.

    ``sixteen_bit`` names single points beyond the fixed 16-bit roles, ``eight_bit`` single points of these roles that
    have 8 bits all the same.
    """

    weight_bits: int
    group_size: int | None = None
    sixteen_bit: frozenset[str] = frozenset()
    eight_bit: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The decodable name, without the lists of single points."""
        grain = "c" if self.group_size is None else f"g{self.group_size}"
        return f"static_w{self.weight_bits}{grain}_a8_kv8"

    def weight_qtype(self, linear: str) -> QType:
        """The format of a weight matrix (embedding, learned positions and lm_head included)."""
        if linear in _ALWAYS_8BIT:
            return INT8
        return {4: INT4, 8: INT8}[self.weight_bits]

    def weight_group_size(self, linear: str) -> int | None:
        """Input channels per group of a weight matrix, None for per-channel."""
        return None if linear in _ALWAYS_8BIT else self.group_size

    def activation_qtype(self, name: str) -> QType:
        """The format of an activation point."""
        wide = name in self.sixteen_bit or point.role_of(name) in SIXTEEN_BIT_ROLES
        return INT16 if wide and name not in self.eight_bit else UINT8

    def rounds_activations_like(self, other: Scheme) -> bool:
        """Whether the two differ in their weights at most."""
        return replace(self, weight_bits=other.weight_bits, group_size=other.group_size) == other

    def with_sixteen_bit(self, points: frozenset[str]) -> Scheme:
        """The same scheme with more 16-bit points."""
        return replace(self, sixteen_bit=self.sixteen_bit | points)

    def with_formats(self, activations: Mapping[str, QParams]) -> Scheme:
        """The scheme in which points have the widths that they have been given; all others keep theirs."""
        wide = {name for name, qparams in activations.items() if qparams.qtype.num_bits == INT16.num_bits}
        narrow = activations.keys() - wide
        fixed = {name for name in activations if point.role_of(name) in SIXTEEN_BIT_ROLES}
        return replace(
            self,
            sixteen_bit=(self.sixteen_bit | (wide - fixed)) - narrow,
            eight_bit=(self.eight_bit | (narrow & fixed)) - wide,
        )


def parse_scheme(name: str) -> Scheme:
    """Read a scheme name.

    Raises:
        UsageError: the name does not decode.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise UsageError(
            f"unknown scheme {name!r}",
            "Use static_w8c_a8_kv8, static_w4c_a8_kv8 or static_w4g64_a8_kv8 (g = group size).",
        )
    group = int(match["group"]) if match["group"] else None
    return Scheme(int(match["bits"]), group)
