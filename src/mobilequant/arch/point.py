"""The names of activations and weights: one vocabulary for walker, observers, schemes, graph and report.

    tokens ─ embed ─▶ residual
      attn_norm ─▶ q,k,v ─▶ (q_norm,k_norm) ─▶ q_rope,k_rope ─▶ scores ─▶ (capped) ─▶ probs ─▶ context ─▶ o
                                                            (attn_post_norm) ─▶ attn_residual
      mlp_norm  ─▶ gate ─▶ act ┐
                └▶ up ─────────┴▶ product ─▶ down ─▶ (mlp_post_norm) ─▶ mlp_residual
    residual ─ final_norm ─▶ logits ─▶ (capped_logits)

A *point* is an activation ("layers.3.product"); a *linear* is a weight ("layers.3.down"), whose tensors are
"<linear>.weight" and, where the family has one, "<linear>.bias". Without a gate the input of down is ``act``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mobilequant.arch.architecture import Architecture

EMBED, FINAL_NORM, LOGITS, CAPPED_LOGITS = "embed", "final_norm", "logits", "capped_logits"
LM_HEAD, POSITIONS = "lm_head", "positions"
HEAD = "head"  # the part that holds all that stands outside the blocks
# Tensors that transforms add (see ``Model``): these two, and "<head norm>.input_scale".
RESIDUAL_SCALE, COLUMN_SCALE, INPUT_SCALE = "residual.scale", "embed.column_scale", "input_scale"
# Tensors that training adds: "layers.<i>.prefix_keys" and "layers.<i>.prefix_values".
PREFIX_KEYS, PREFIX_VALUES = "prefix_keys", "prefix_values"
# "<linear>.output_factor" is there only while training lasts.
OUTPUT_FACTOR = "output_factor"
# "layers.<i>.rope_factors" too, where a block is compiled.
ROPE_FACTORS = "rope_factors"


def at(layer: int, role: str) -> str:
    """The full name of a role inside a block: ``at(3, "down") == "layers.3.down"``."""
    return f"layers.{layer}.{role}"


def layer_of(name: str) -> int:
    """The layer in the name of a block or of something inside it: ``layer_of("layers.3.down") == 3``."""
    return int(name.split(".")[1])


def as_first(name: str) -> str:
    """The same place in the first block: ``as_first("layers.3.down") == "layers.0.down"``; what is in none stays."""
    return at(0, name.split(".", 2)[2]) if name.startswith("layers.") else name


def role_of(name: str) -> str:
    """The last part of a name: ``role_of("layers.3.down") == "down"``."""
    return name.rsplit(".", 1)[-1]


def part_of(name: str) -> str:
    """The part of the model in which a module lies: ``part_of("layers.3.down") == "layers.3"``."""
    return f"layers.{layer_of(name)}" if name.startswith("layers.") else HEAD


def parts(arch: Architecture) -> list[str]:
    """The blocks in running order, then ``HEAD``."""
    return [*(f"layers.{layer}" for layer in range(arch.num_layers)), HEAD]


def within(part: str | None, modules: Iterable[str]) -> list[str]:
    """Those modules that lie in a part; all of them, where the part is None."""
    return [name for name in modules if part in (None, part_of(name))]


def linear_roles(arch: Architecture) -> tuple[str, ...]:
    """Weights of a block in the order in which they run."""
    mlp = ("gate", "up", "down") if arch.gated_mlp else ("up", "down")
    return ("q", "k", "v", "o", *mlp)


def down_input(arch: Architecture) -> str:
    """The role that feeds ``down``."""
    return "product" if arch.gated_mlp else "act"


def input_role(arch: Architecture, linear_role: str) -> str:
    """The activation that a linear of a block reads; linears with the same answer share one range."""
    if linear_role in ("q", "k", "v"):
        return "attn_norm"
    if linear_role in ("gate", "up"):
        return "attn_norm" if arch.shared_block_norm else "mlp_norm"
    return {"o": "context", "down": down_input(arch)}[linear_role]


def input_of(arch: Architecture, linear: str) -> str:
    """The full point name that the linear ``linear`` reads."""
    if linear == LM_HEAD:
        return FINAL_NORM
    prefix, role = linear.rsplit(".", 1)
    return f"{prefix}.{input_role(arch, role)}"


def block_points(arch: Architecture, layer: int) -> Iterator[str]:
    """Every activation of a block, in the order in which it appears."""
    roles = ["attn_norm", "q", "k", "v"]
    roles += ["q_norm", "k_norm"] if arch.qk_norm else []
    roles += ["q_rope", "k_rope"] if arch.layers[layer].rope else []
    roles += ["scores", *(["capped"] if arch.attention_softcap else []), "probs", "context", "o"]
    roles += ["attn_post_norm"] if arch.post_norms else []
    roles += ["attn_residual"]
    roles += [] if arch.shared_block_norm else ["mlp_norm"]
    roles += ["gate", "act", "up", "product"] if arch.gated_mlp else ["up", "act"]
    roles += ["down", *(["mlp_post_norm"] if arch.post_norms else []), "mlp_residual"]
    return (at(layer, role) for role in roles)


def all_points(arch: Architecture) -> Iterator[str]:
    """Every activation of the model, in the order in which it appears."""
    yield EMBED
    for layer in range(arch.num_layers):
        yield from block_points(arch, layer)
    yield from (FINAL_NORM, LOGITS)
    if arch.final_softcap:
        yield CAPPED_LOGITS


def residual_points(arch: Architecture) -> list[str]:
    """The residual stream wherever it has a name."""
    roles = ("attn_residual", "mlp_residual")
    return [EMBED, *(at(layer, role) for layer in range(arch.num_layers) for role in roles)]


def residual_writers(arch: Architecture) -> list[str]:
    """The linears, or the norms behind them, whose outputs are added to the residual stream that ``embed`` opens."""
    roles = ("attn_post_norm", "mlp_post_norm") if arch.post_norms else ("o", "down")
    return [at(layer, role) for layer in range(arch.num_layers) for role in roles]


def all_linears(arch: Architecture) -> Iterator[str]:
    """Every weight matrix that multiplies activations, lm_head last."""
    for layer in range(arch.num_layers):
        yield from (at(layer, role) for role in linear_roles(arch))
    yield LM_HEAD


def tables(arch: Architecture) -> list[str]:
    """Every matrix whose rows are looked up: the embedding and, where learned, the positions."""
    return [EMBED, POSITIONS] if arch.learned_positions else [EMBED]


def norm_input(norm: str) -> str:
    """What a norm reads, apart from the residual stream that it reads it from: no integer is ever stored there, but
    published simulations round there and leave the stream itself in float."""
    return f"{norm}.input"


def query_point(arch: Architecture, layer: int) -> str:
    """The point that holds the queries as attention reads them."""
    return at(layer, _attention_operand(arch, layer, "q"))


def key_point(arch: Architecture, layer: int) -> str:
    """The point that holds the keys as they lie in the cache."""
    return at(layer, _attention_operand(arch, layer, "k"))


def _attention_operand(arch: Architecture, layer: int, role: str) -> str:
    if arch.layers[layer].rope:
        return f"{role}_rope"
    return f"{role}_norm" if arch.qk_norm else role
