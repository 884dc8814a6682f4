"""What an integer graph weighs and holds: bits per weight, bytes per role, counts. The facts of card and report."""

from __future__ import annotations

from collections import Counter

from mobilequant.arch import point
from mobilequant.integer.graph import IntegerGraph
from mobilequant.report.schema import RoleSize, SchemeInfo

_CODES = ("codes", "position_codes")


def bits_per_weight(graph: IntegerGraph) -> float:
    """Stored bits of all matrices with their multipliers and biases, per matrix element; a tied head counts once."""
    names = {name for op in graph.linears() for name in op.constants.values()}
    elements = sum(graph.constants[name].array.size for name in _code_constants(graph))
    return sum(graph.constants[name].stored_bits() for name in names) / elements


def _code_constants(graph: IntegerGraph) -> set[str]:
    return {op.constants[key] for op in graph.linears() for key in _CODES if key in op.constants}


def bytes_by_role(graph: IntegerGraph) -> dict[str, int]:
    """Stored bytes of every constant, summed over layers; largest first."""
    bits: Counter[str] = Counter()
    for name, constant in graph.constants.items():
        bits[role_of_constant(name)] += constant.stored_bits()
    return {role: (count + 7) // 8 for role, count in bits.most_common()}


def role_of_constant(name: str) -> str:
    """The role that a constant belongs to: ``layers.3.down.codes`` → ``down``, ``rope0.cos`` → ``rope``."""
    if point.role_of(name) in ("prefix_keys", "prefix_values"):
        return "prefix"
    return point.role_of(name.rsplit(".", 1)[0]).rstrip("0123456789")


def scheme_info(graph: IntegerGraph, scheme: str, preset: str = "") -> SchemeInfo:
    """The facts about a graph as model card and report show them."""
    elements: Counter[str] = Counter()
    for name in _code_constants(graph):
        elements[role_of_constant(name)] += graph.constants[name].array.size
    sizes = bytes_by_role(graph)
    return SchemeInfo(
        name=scheme,
        preset=preset,
        bits_per_weight=bits_per_weight(graph),
        size_bytes=sum(sizes.values()),
        float_ops=len(graph.float_ops()),
        activations=len(graph.tensors),
        sixteen_bit=tuple(graph.sixteen_bit()),
        sizes=tuple(
            RoleSize(role=role, size_bytes=count, parameters=elements.get(role)) for role, count in sizes.items()
        ),
    )
