"""The block walker: one readable forward pass for every supported decoder.

Every activation passes through a ``tap`` under its name (``arch.point``). An observer taps to look, a fake quantizer
taps to round, and lowering emits the same names: so float, fake-quant and integer values can be compared anywhere.

Shapes: B batch, T tokens, S cached tokens (prefix + T), C channels, H query heads, G key/value heads, D head size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from mobilequant.arch import point
from mobilequant.arch.architecture import Rope
from mobilequant.models.model import KVPrefix, Model, Past

Tap = Callable[[str, Tensor], Tensor]


def untouched(_name: str, value: Tensor) -> Tensor:
    """The tap that does nothing."""
    return value


def forward(model: Model, tokens: Tensor, *, tap: Tap = untouched, prefix: Past | None = None) -> Tensor:
    """Logits (B, T, V) of tokens (B, T); token t stands at position len(prefix) + t."""
    return head(model, body(model, tokens, tap=tap, prefix=prefix), tap=tap)


def body(model: Model, tokens: Tensor, *, tap: Tap = untouched, prefix: Past | None = None) -> Tensor:
    """The residual (B, T, C) behind the last block, for whoever has no use for logits."""
    hidden = embed(model, tokens, tap=tap, start=len(prefix) if prefix else 0)
    return blocks(model, hidden, tap=tap, prefix=prefix)


def blocks(model: Model, hidden: Tensor, *, first: int = 0, tap: Tap = untouched, prefix: Past | None = None) -> Tensor:
    """The blocks from ``first`` to the last: residual (B, T, C) → residual (B, T, C)."""
    for layer in range(first, model.arch.num_layers):
        hidden = block(model, layer, hidden, tap=tap, prefix=prefix)
    return hidden


def embed(model: Model, tokens: Tensor, *, tap: Tap = untouched, start: int = 0) -> Tensor:
    """The first residual (B, T, C)."""
    hidden = model.tensors["embed.weight"][tokens] * model.arch.embedding_scale
    if point.COLUMN_SCALE in model.tensors:
        hidden = hidden / model.tensors[point.COLUMN_SCALE]
    if model.arch.learned_positions:
        hidden = hidden + model.tensors["positions.weight"][start : start + tokens.shape[1]]
    scale = model.residual_scale
    return tap(point.EMBED, hidden if scale is None else hidden / scale)


def block(model: Model, layer: int, hidden: Tensor, *, tap: Tap = untouched, prefix: Past | None = None) -> Tensor:
    """One decoder block: residual (B, T, C) → residual (B, T, C)."""
    arch = model.arch
    normed = _norm(model, point.at(layer, "attn_norm"), _unscaled(hidden, model.residual_scale), tap)
    branch = _attention(model, layer, normed, tap, prefix)
    if arch.post_norms:
        branch = _norm(model, point.at(layer, "attn_post_norm"), branch, tap)
    after_attention = tap(point.at(layer, "attn_residual"), hidden + branch)
    if not arch.shared_block_norm:
        source = hidden if arch.parallel_residual else after_attention
        normed = _norm(model, point.at(layer, "mlp_norm"), _unscaled(source, model.residual_scale), tap)
    branch = _mlp(model, layer, normed, tap)
    if arch.post_norms:
        branch = _norm(model, point.at(layer, "mlp_post_norm"), branch, tap)
    return tap(point.at(layer, "mlp_residual"), after_attention + branch)


def head(model: Model, hidden: Tensor, *, tap: Tap = untouched) -> Tensor:
    """Final norm and lm_head: (B, T, C) → logits (B, T, V)."""
    normed = final_norm(model, hidden, tap=tap)
    logits = tap(point.LOGITS, _linear(model, point.LM_HEAD, normed))
    cap = model.arch.final_softcap
    return tap(point.CAPPED_LOGITS, cap * torch.tanh(logits / cap)) if cap else logits


def final_norm(model: Model, hidden: Tensor, *, tap: Tap = untouched) -> Tensor:
    """What lm_head reads: (B, T, C) → the same shape."""
    return _norm(model, point.FINAL_NORM, _unscaled(hidden, model.residual_scale), tap)


def _unscaled(value: Tensor, scale: Tensor | None) -> Tensor:
    """What a norm reads, as the family defines it."""
    return value if scale is None else value * scale


def _linear(model: Model, name: str, value: Tensor) -> Tensor:
    factor = model.tensors.get(f"{name}.{point.OUTPUT_FACTOR}")
    if factor is None:
        return F.linear(value, model.weight(name), model.bias(name))
    product, bias = F.linear(value, model.weight(name)) * factor, model.bias(name)
    return product if bias is None else product + bias


def _norm(model: Model, name: str, value: Tensor, tap: Tap) -> Tensor:
    gain, eps = model.tensors[f"{name}.weight"], model.arch.norm_eps
    value = tap(point.norm_input(name), value)
    if model.arch.norm == "layer":
        normed = F.layer_norm(value, gain.shape, gain, model.bias(name), eps)
    else:
        normed = rms_norm(value, gain, eps)
    return tap(name, normed)


def rms_norm(value: Tensor, gain: Tensor, eps: float) -> Tensor:
    """value / sqrt(mean(value²) + eps) · gain over the last dimension."""
    return F.rms_norm(value, gain.shape, gain, eps)


def _attention(model: Model, layer: int, normed: Tensor, tap: Tap, prefix: Past | None) -> Tensor:
    """(B, T, C) → (B, T, C). The keys and values of the prefix stand before those of the tokens."""
    arch = model.arch
    q, k, v = (_project_heads(model, point.at(layer, role), normed, tap) for role in "qkv")
    start = len(prefix) if prefix else 0
    q = _position(model, layer, "q", q, start, tap)
    k = _position(model, layer, "k", k, start, tap)
    if prefix is not None:
        k, v = prefix.joined(layer, k, v)
    constant = prefix.num_constant if prefix else 0
    visible = visible_tokens(q.shape[2], start, constant, arch.layers[layer].window, q.device).to(q.dtype)
    context = _attend(model, layer, q, k, v, visible, tap)
    context = tap(point.at(layer, "context"), context.transpose(1, 2).flatten(2))
    o = point.at(layer, "o")
    assert context.shape[-1] == arch.num_heads * arch.head_dim
    return tap(o, _linear(model, o, context))


def _project_heads(model: Model, name: str, normed: Tensor, tap: Tap) -> Tensor:
    """(B, T, C) → (B, heads, T, D)."""
    return tap(name, _linear(model, name, normed)).unflatten(-1, (-1, model.arch.head_dim)).transpose(1, 2)


def _position(model: Model, layer: int, role: str, heads: Tensor, start: int, tap: Tap) -> Tensor:
    """Head norm, then RoPE, where the family has them; (B, heads, T, D) → the same shape."""
    if model.arch.qk_norm:
        name = point.at(layer, f"{role}_norm")
        heads = _unscaled(heads, model.tensors.get(f"{name}.{point.INPUT_SCALE}"))
        heads = tap(name, rms_norm(heads, model.tensors[f"{name}.weight"], model.arch.norm_eps))
    rope = model.arch.layers[layer].rope
    if rope:
        factors = model.tensors.get(point.at(layer, point.ROPE_FACTORS))
        rotated = rotate(heads, rope, start) if factors is None else turned(heads, factors)
        heads = tap(point.at(layer, f"{role}_rope"), rotated)
    return heads


@functools.lru_cache(maxsize=16)
def rope_factors(rope: Rope, start: int, num_tokens: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Factors (2, T, rotary_dim) of a dimension itself, and of the one it turns with: cosines, and sines with signs.

    Kept on the device, because all layers share them and a captured training step may not copy from the host.
    """
    with torch.inference_mode(False):
        frequencies = torch.tensor(rope.inverse_frequencies, dtype=torch.float64, device=device)
        angles = torch.arange(start, start + num_tokens, device=device)[:, None] * frequencies
        cos, sin = angles.cos() * rope.attention_factor, angles.sin() * rope.attention_factor
        return torch.stack((torch.cat((cos, cos), dim=1), torch.cat((-sin, sin), dim=1))).to(dtype)


def rotate(heads: Tensor, rope: Rope, start: int) -> Tensor:
    """Turn dimension i with dimension i + rotary_dim/2 of heads (B, H, T, D) whose first token stands at ``start``;
    later dimensions pass."""
    return turned(heads, rope_factors(rope, start, heads.shape[2], heads.device, heads.dtype))


def turned(heads: Tensor, factors: Tensor) -> Tensor:
    """``rotate`` by a table of ``rope_factors``."""
    own, other = factors
    rotary_dim = factors.shape[-1]
    moving, rest = heads.tensor_split((rotary_dim,), dim=-1)
    rotated = moving * own + moving.roll(rotary_dim // 2, dims=-1) * other
    return torch.cat((rotated, rest), dim=-1) if rest.shape[-1] else rotated


def _attend(model: Model, layer: int, q: Tensor, k: Tensor, v: Tensor, visible: Tensor, tap: Tap) -> Tensor:
    """Queries (B, H, T, D), keys and values (B, G, S, D), mask (T, S) of ones and zeros → (B, H, T, D)."""
    arch = model.arch
    # What the mask hides must not enter a range: it becomes 0.0, which every range contains. Mask and scale are one
    # product, and the mask of the softmax a sum: scores are the largest tensors of a block, and each pass costs.
    products = _with_shared_heads(q, k.transpose(-1, -2))
    scores = tap(point.at(layer, "scores"), products * (arch.attention_scale * visible))
    if arch.attention_softcap:
        cap = arch.attention_softcap
        scores = tap(point.at(layer, "capped"), cap * torch.tanh(scores / cap))
    probs = (scores + visible.log()).softmax(-1)
    return _with_shared_heads(tap(point.at(layer, "probs"), probs), v)


def _with_shared_heads(rows: Tensor, shared: Tensor) -> Tensor:
    """(B, H, T, N) @ (B, G, N, M) → (B, H, T, M): heads that share a matrix stand together as rows of one product.

    A copy of the matrix for each of them would cost more than the product where T is 1 and the cache is long.
    """
    product = rows.reshape(*shared.shape[:2], -1, rows.shape[-1]) @ shared
    return product.view(*rows.shape[:-1], -1)


def visible_tokens(
    num_tokens: int, start: int, num_prefix: int, window: int | None, device: torch.device | str = "cpu"
) -> Tensor:
    """Mask (T, S) of what tokens at positions start … start + T − 1 may see among all S = start + T positions.

    Not the future, and of the past only the last ``window`` tokens; but the constant prefix, being the attention
    sink, stays visible to every token even beyond a sliding window.
    """
    query = torch.arange(start, start + num_tokens, device=device)[:, None]
    key = torch.arange(start + num_tokens, device=device)[None, :]
    visible = key <= query
    if window is not None:
        visible = visible & ((query - key < window) | (key < num_prefix))
    return visible


def _mlp(model: Model, layer: int, normed: Tensor, tap: Tap) -> Tensor:
    """(B, T, C) → (B, T, C)."""
    activate = ACTIVATIONS[model.arch.activation]

    def linear(role: str, value: Tensor) -> Tensor:
        name = point.at(layer, role)
        return tap(name, _linear(model, name, value))

    if not model.arch.gated_mlp:
        return linear("down", tap(point.at(layer, "act"), activate(linear("up", normed))))
    gate = tap(point.at(layer, "act"), activate(linear("gate", normed)))
    return linear("down", tap(point.at(layer, "product"), gate * linear("up", normed)))


def _gelu_tanh(value: Tensor) -> Tensor:
    return F.gelu(value, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": F.relu,
}


def compute_prefix(model: Model, tokens: tuple[int, ...]) -> KVPrefix:
    """Run the prefix once in float and keep what the KV cache then holds; or what training has put in its place."""
    if point.at(0, point.PREFIX_KEYS) in model.tensors:
        return _tuned_prefix(model, tokens)
    caught: dict[str, Tensor] = {}

    def catch(name: str, value: Tensor) -> Tensor:
        if point.role_of(name) in ("k", "k_norm", "k_rope", "v"):
            caught[name] = value
        return value

    forward(model, torch.tensor([tokens], device=model.device), tap=catch)
    arch = model.arch

    def as_cached(name: str) -> Tensor:
        value = caught[name][0]  # (heads, P, D), or (P, G·D) straight from the projection
        return value if value.dim() == 3 else value.unflatten(-1, (-1, arch.head_dim)).transpose(0, 1)

    layers = range(arch.num_layers)
    return KVPrefix(
        tokens,
        tuple(as_cached(point.key_point(arch, layer)) for layer in layers),
        tuple(as_cached(point.at(layer, "v")) for layer in layers),
    )


def _tuned_prefix(model: Model, tokens: tuple[int, ...]) -> KVPrefix:
    layers = range(model.arch.num_layers)
    keys, values = (
        tuple(model.tensors[point.at(layer, role)] for layer in layers)
        for role in (point.PREFIX_KEYS, point.PREFIX_VALUES)
    )
    return KVPrefix(tokens, keys, values)
