"""What flows where: rows of channels everywhere, but scores and probabilities of heads inside attention.

rows (T, C) ─ attention_scores ─▶ scores (H, T, S) ─ [table] ─ softmax ─▶ probabilities (H, T, S)
                                                          rows (T, C) ◀─ attention_context ─┘
"""

from __future__ import annotations

from collections import Counter

from mobilequant.integer.graph import TOKENS, IntegerGraph, Op
from mobilequant.integer.requirement import require

_TABLES = ("table8", "table16")
_READS = {"softmax": "scores", "attention_context": "probabilities"}


def check_layout(graph: IntegerGraph) -> None:
    """Check that every op reads what it is made for, and that each layer fills its cache once.

    Raises:
        PackageError: the first op that does not.
    """
    flow: dict[str, str] = {}
    attention: dict[str, Op] = {}  # the attention_scores op behind scores and probabilities
    for op in graph.ops:
        _check_inputs(op, flow)
        if op.kind == "attention_scores":
            attention[op.output] = op
        elif op.inputs[0] in attention:
            _check_attention(op, attention[op.inputs[0]])
            attention[op.output] = attention[op.inputs[0]]
        flow[op.output] = _flow(op, flow)
        if flow[op.output] == "rows":
            attention.pop(op.output, None)
    require(flow[graph.output] == "rows", f"the output {graph.output!r} is no row of logits")
    _check_caches(graph)


def _check_inputs(op: Op, flow: dict[str, str]) -> None:
    reads_tokens = TOKENS in op.inputs
    require(reads_tokens == (op.kind == "embedding"), f"op {op.output!r} ({op.kind}) and {TOKENS!r} do not go together")
    if reads_tokens:
        return
    first, *others = (flow[name] for name in op.inputs)
    allowed = ("rows", "scores") if op.kind in _TABLES else (_READS.get(op.kind, "rows"),)
    require(first in allowed, f"op {op.output!r} ({op.kind}) cannot read {first}")
    require(set(others) <= {"rows"}, f"op {op.output!r} ({op.kind}) cannot read {others}")


def _flow(op: Op, flow: dict[str, str]) -> str:
    if op.kind in _TABLES:
        return flow[op.inputs[0]]
    return {"attention_scores": "scores", "softmax": "probabilities"}.get(op.kind, "rows")


def _check_attention(op: Op, scores: Op) -> None:
    """The ops of one attention agree on their layer, heads and window."""
    for name in ("layer", "num_heads", "window"):
        if name in op.attributes:
            require(
                op.attributes[name] == scores.attributes[name],
                f"op {op.output!r} ({op.kind}) and {scores.output!r} differ in {name}",
            )


def _check_caches(graph: IntegerGraph) -> None:
    for kind in ("attention_scores", "attention_context"):
        layers = Counter(op.attributes["layer"] for op in graph.ops if op.kind == kind)
        once = layers == Counter(range(len(graph.caches)))
        require(once, f"each of the {len(graph.caches)} caches must be used by one {kind}")
