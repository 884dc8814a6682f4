"""What an integer graph weighs: bits per weight and bytes per role."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from mobilequant.arch import point
from mobilequant.integer.graph import IntegerGraph

_CODES = ("codes", "position_codes")


def bits_per_weight(graph: IntegerGraph) -> float:
    """Stored bits of all matrices, their multipliers and biases included, per matrix element; a shared one counts once."""
    names = set(_matrix_constants(graph))
    codes = {op.constants[key] for op in graph.linears() for key in _CODES if key in op.constants}
    bits = sum(graph.constants[name].stored_bits() for name in names)
    return bits / sum(graph.constants[name].array.size for name in codes)


def _matrix_constants(graph: IntegerGraph) -> Iterator[str]:
    for op in graph.linears():
        yield from op.constants.values()


def bytes_by_role(graph: IntegerGraph) -> dict[str, int]:
    """Stored bytes of every constant, summed over layers; largest first."""
    bits: Counter[str] = Counter()
    for name, constant in graph.constants.items():
        bits[role_of_constant(name)] += constant.stored_bits()
    return {role: (count + 7) // 8 for role, count in bits.most_common()}


def role_of_constant(name: str) -> str:
    """The role that a constant belongs to: ``layers.3.down.codes`` → ``down``, ``rope0.cos`` → ``rope``."""
    if name.rsplit(".", 1)[-1] in ("prefix_keys", "prefix_values"):
        return "prefix"
    return point.role_of(name.rsplit(".", 1)[0]).rstrip("0123456789")
