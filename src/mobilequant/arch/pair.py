"""Scale pairs: places where channels may be divided on one side and multiplied on the other, exactly.

    Y = X W = (X S⁻¹)(S W)                           (SmoothQuant, arXiv 2211.10438, eq. 3)

    norm_to_qkv, norm_to_mlp, norm_to_head   gain (and bias) of a norm       → columns of the linears that read it
    up_to_down                               rows of up                      → columns of down
    v_to_o                                   rows of v                       → columns of o, per query head of the group
    q_to_k                                   rows of q (or gains of q_norm)  → rows of k (or gains of k_norm)

Where one norm feeds both branches of a block, norm_to_qkv includes gate and up.

A pair has one *free scale* of ``num_channels`` positive numbers. Where two channels must share a number, the index
maps say so. In q_to_k that is RoPE: it turns dimension i together with i + rotary_dim/2, so both carry one scale, and
all query heads of a group carry that of their key head; ``q·k`` then stays what it was:

    free scale      f0 f1 │ f2 f3          (head size 6, rotary_dim 4: two turning pairs, then what passes through)
    dimension of k  d0 d1 d2 d3 d4 d5
    carries         f0 f1 f0 f1 f2 f3

Everything here is derived from the ``Architecture``; no family is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture

Kind = Literal["norm_to_qkv", "norm_to_mlp", "norm_to_head", "up_to_down", "v_to_o", "q_to_k"]


@dataclass(frozen=True)
class ScalePair:
    """One place where a function-preserving scale can go.

    producers: modules whose output channels (weight rows or gains, and bias) are divided.
    consumers: modules that are multiplied, along their inputs (weight columns), or in q_to_k along their outputs.
    divided, multiplied: the activations whose ranges change, in running order. The last of ``divided`` is what the
    consumers read (in q_to_k: the queries as attention reads them, and the last of ``multiplied`` the keys).
    tied: the consumer is the embedding too, whose rows are divided again when they are looked up. Only powers of two
    can be lowered then.
    """

    kind: Kind
    layer: int | None
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    num_channels: int
    divided: tuple[str, ...]
    multiplied: tuple[str, ...] = ()
    tied: bool = False

    @property
    def name(self) -> str:
        """For example ``layers.3.v_to_o``."""
        return self.kind if self.layer is None else point.at(self.layer, self.kind)

    @property
    def consumer_axis(self) -> Literal["input", "output"]:
        """Along which channels the consumers are multiplied."""
        return "output" if self.kind == "q_to_k" else "input"


def scale_pairs(arch: Architecture) -> list[ScalePair]:
    """All pairs of a model, in running order."""
    pairs = [pair for layer in range(arch.num_layers) for pair in _block_pairs(arch, layer)]
    return [*pairs, _norm_to_head(arch)]


def producer_index(arch: Architecture, pair: ScalePair) -> list[int]:
    """Output channel of the producers → entry of the free scale that divides it."""
    if pair.kind == "q_to_k" and not arch.qk_norm:
        return _per_group(arch, _head_index(arch, pair.layer))
    return consumer_index(arch, pair) if pair.kind == "q_to_k" else list(range(pair.num_channels))


def consumer_index(arch: Architecture, pair: ScalePair) -> list[int]:
    """Channel of the consumers (see ``consumer_axis``) → entry of the free scale that multiplies it."""
    if pair.kind == "v_to_o":
        return _per_group(arch, list(range(arch.head_dim)))
    if pair.kind != "q_to_k":
        return list(range(pair.num_channels))
    head = _head_index(arch, pair.layer)
    return head if arch.qk_norm else _repeat_heads(head, list(range(arch.num_kv_heads)))


def _block_pairs(arch: Architecture, layer: int) -> Iterator[ScalePair]:
    mlp_inputs = ("gate", "up") if arch.gated_mlp else ("up",)
    if arch.shared_block_norm:
        yield _norm_pair(arch, layer, "norm_to_qkv", "attn_norm", ("q", "k", "v", *mlp_inputs))
    else:
        yield _norm_pair(arch, layer, "norm_to_qkv", "attn_norm", ("q", "k", "v"))
    yield _q_to_k(arch, layer)
    yield _v_to_o(arch, layer)
    if not arch.shared_block_norm:
        yield _norm_pair(arch, layer, "norm_to_mlp", "mlp_norm", mlp_inputs)
    if arch.gated_mlp or arch.activation == "relu":  # relu(x/s)·s = relu(x) for s > 0; no other activation commutes
        yield _up_to_down(arch, layer)


def _norm_pair(arch: Architecture, layer: int, kind: Kind, norm: str, readers: tuple[str, ...]) -> ScalePair:
    name = point.at(layer, norm)
    consumers = tuple(point.at(layer, role) for role in readers)
    return ScalePair(kind, layer, (name,), consumers, arch.hidden_size, divided=(name,))


def _norm_to_head(arch: Architecture) -> ScalePair:
    norm = point.FINAL_NORM
    return ScalePair("norm_to_head", None, (norm,), (point.LM_HEAD,), arch.hidden_size, (norm,), tied=arch.tied_head)


def _up_to_down(arch: Architecture, layer: int) -> ScalePair:
    up, down = point.at(layer, "up"), point.at(layer, "down")
    divided = (up, point.at(layer, point.down_input(arch)))
    return ScalePair("up_to_down", layer, (up,), (down,), arch.intermediate_size, divided)


def _v_to_o(arch: Architecture, layer: int) -> ScalePair:
    v, o = point.at(layer, "v"), point.at(layer, "o")
    divided = (v, point.at(layer, "context"))
    return ScalePair("v_to_o", layer, (v,), (o,), arch.num_kv_heads * arch.head_dim, divided)


def _q_to_k(arch: Architecture, layer: int) -> ScalePair:
    """Between the projections, or behind a head norm (which would undo a scale in front of it) between its gains."""
    suffix = "_norm" if arch.qk_norm else ""
    free = len(set(_head_index(arch, layer))) * (1 if arch.qk_norm else arch.num_kv_heads)
    q, k = point.at(layer, f"q{suffix}"), point.at(layer, f"k{suffix}")
    divided = tuple(dict.fromkeys((q, point.query_point(arch, layer))))
    multiplied = tuple(dict.fromkeys((k, point.key_point(arch, layer))))
    return ScalePair("q_to_k", layer, (q,), (k,), free, divided, multiplied)


def _head_index(arch: Architecture, layer: int | None) -> list[int]:
    """Dimension of a head → entry of its free scale: the two dimensions that turn together share one."""
    assert layer is not None
    rope = arch.layers[layer].rope
    half = rope.rotary_dim // 2 if rope else 0
    return [dim if dim < half else dim - half for dim in range(arch.head_dim)]


def _per_group(arch: Architecture, head: list[int]) -> list[int]:
    """Channels of all query heads, each with the entries of its key/value head."""
    return _repeat_heads(head, [query // arch.queries_per_kv for query in range(arch.num_heads)])


def _repeat_heads(head: list[int], kv_heads: list[int]) -> list[int]:
    stride = max(head) + 1
    return [kv_head * stride + entry for kv_head in kv_heads for entry in head]
