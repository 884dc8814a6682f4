"""The bit map of the MobileQuant paper, operator by operator (arXiv 2408.13933, §3 and appendix; its Table of bits).

    16 bits   what norms read · gains of norms · scores · probabilities · outputs of o and down
     8 bits   outputs of norms · q, k, v, before and behind RoPE · context · gate · its activation · up · product
    float     embedding, residual additions, final norm, lm_head

All activations static, asymmetric, per tensor. Weights: 8 bits asymmetric per tensor, down per channel; or 4 bits per
channel, symmetric or asymmetric. This is a simulation: the integers of this project round the float part too.
"""

from __future__ import annotations

from collections.abc import Iterator

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.numerics.qtype import UINT8, QType
from mobilequant.solvers.learned.clipped_weight import WeightFormat

UINT16 = QType("uint16", 16, 0, 65535, "uint16")
_WIDE = ("scores", "capped", "probs", "o", "down")
_FLOAT = ("attn_residual", "mlp_residual", "attn_post_norm", "mlp_post_norm")


def activations(arch: Architecture) -> dict[str, QType]:
    """The format of every activation that is rounded."""
    found: dict[str, QType] = {}
    for layer in range(arch.num_layers):
        for name in point.block_points(arch, layer):
            role = point.role_of(name)
            if role in _FLOAT:
                continue
            if role in ("attn_norm", "mlp_norm"):
                found[point.norm_input(name)] = UINT16
            found[name] = UINT16 if role in _WIDE else UINT8
    return found


def weights(arch: Architecture, num_bits: int, *, symmetric: bool) -> dict[str, WeightFormat]:
    """The format of every matrix and every vector of gains in the blocks."""
    found = dict.fromkeys(_norms(arch), WeightFormat(16, symmetric=False, per_channel=False))
    for layer in range(arch.num_layers):
        for role in point.linear_roles(arch):
            found[point.at(layer, role)] = WeightFormat(num_bits, symmetric, num_bits == 4 or role == "down")
    return found


def _norms(arch: Architecture) -> Iterator[str]:
    for layer in range(arch.num_layers):
        yield from (
            name for name in point.block_points(arch, layer) if point.role_of(name) in ("attn_norm", "mlp_norm")
        )
