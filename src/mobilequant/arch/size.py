"""How large an activation is: what a wider format of it costs."""

from __future__ import annotations

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture

_OF_MLP = ("gate", "up", "act", "product")
_OF_QUERIES = ("q", "q_norm", "q_rope", "context")
_OF_KEYS = ("k", "k_norm", "k_rope", "v")
_OF_PAIRS = ("scores", "capped", "probs")


def elements_per_token(arch: Architecture, name: str, *, seen: int) -> int:
    """Elements that a point has for one token; a row of scores is as long as the number of tokens ``seen``."""
    role = point.role_of(name)
    if role in _OF_MLP:
        return arch.intermediate_size
    if role in _OF_QUERIES:
        return arch.num_heads * arch.head_dim
    if role in _OF_KEYS:
        return arch.num_kv_heads * arch.head_dim
    if role in _OF_PAIRS:
        return arch.num_heads * seen
    return arch.vocab_size if role in (point.LOGITS, point.CAPPED_LOGITS) else arch.hidden_size
