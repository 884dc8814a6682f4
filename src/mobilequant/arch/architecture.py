"""One concrete decoder, resolved to numbers: what the block walker, the transforms and lowering read.

A family file (``arch/families``) says how to get from a checkpoint to this; after that nobody asks for the family.
All tensors are canonical by then: separate q/k/v, weights as (O, I), RMSNorm gains with any "+1" already added,
RoPE in the "half" layout (dimension i turns together with i + rotary_dim/2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rope:
    """Rotary embedding of one layer: inverse frequencies in radians per position (already scaled)."""

    inverse_frequencies: tuple[float, ...]
    attention_factor: float = 1.0  # multiplies cos and sin (longrope, yarn)

    @property
    def rotary_dim(self) -> int:
        """How many leading dimensions of a head are turned; the others pass through."""
        return 2 * len(self.inverse_frequencies)


@dataclass(frozen=True)
class Layer:
    """What may differ from layer to layer."""

    rope: Rope | None
    window: int | None = None  # sliding attention window in tokens, None = all earlier tokens


@dataclass(frozen=True)
class Architecture:
    """Every number and choice that the forward pass of a decoder needs."""

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    layers: tuple[Layer, ...]
    norm: Literal["rms", "layer"]
    norm_eps: float
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"]
    attention_scale: float
    gated_mlp: bool = True
    parallel_residual: bool = False  # x + attention(norm(x)) + mlp(norm(x)), as GPT-NeoX
    shared_block_norm: bool = False  # parallel residual with one norm for both branches
    post_norms: bool = False  # Gemma 2/3: a norm on each branch before it is added
    qk_norm: bool = False  # RMSNorm over each head of q and k, before RoPE
    attention_softcap: float | None = None
    final_softcap: float | None = None
    embedding_scale: float = 1.0
    learned_positions: bool = False  # "positions.weight" is added to the embedding (offset removed at load)
    tied_head: bool = False
    max_context: int = 2048
    bos_token: int | None = None
    add_bos: bool = False  # whether the family's tokenizer puts BOS first; recorded with every number

    @property
    def num_layers(self) -> int:
        """Number of decoder blocks."""
        return len(self.layers)

    @property
    def leading_token(self) -> int | None:
        """The BOS token that goes before every text of this model, or None."""
        return self.bos_token if self.add_bos else None

    @property
    def queries_per_kv(self) -> int:
        """Query heads that share one key/value head (1 = MHA, num_heads = MQA)."""
        return self.num_heads // self.num_kv_heads
