"""ArchSpec: what a family file states, and how a checkpoint's config.json becomes an ``Architecture``.

A field is a constant, or a ``Key`` that says where config.json holds it and what an omitted key means. Whatever can be
derived (pairs, inputs, the integer graph) is derived from the ``Architecture`` and never stated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mobilequant.arch.architecture import Architecture, Layer, Rope
from mobilequant.arch.config import Config, Key
from mobilequant.arch.rope import FULL, SLIDING, RopeRule, resolve_rope, rope_kind, rope_parameters, trained_context

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]
LARGEST_DEPTH, LARGEST_HEAD = 4096, 2**14

# The keys of most families; a family file overrides what it names differently.
HIDDEN_SIZE, INTERMEDIATE_SIZE = Key("hidden_size"), Key("intermediate_size")
NUM_LAYERS, NUM_HEADS = Key("num_hidden_layers"), Key("num_attention_heads")
NUM_KV_HEADS = Key("num_key_value_heads", None)  # None: as many as query heads
HEAD_DIM = Key("head_dim", None)  # None: hidden_size / num_heads
MAX_CONTEXT = Key("max_position_embeddings")
PLAIN_ROPE = RopeRule()
UNTIED = Key("tie_word_embeddings", False)

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


@dataclass(frozen=True)
class Demand:
    """A key that must have one value (or be missing), because the other variants are not computed here."""

    key: str
    value: Any  # a constant, or the Key of another entry that must agree
    reason: str


COMMON_DEMANDS = (
    *(Demand(key, 0, "mixture of experts") for key in ("num_local_experts", "num_experts", "n_routed_experts")),
    Demand("is_encoder_decoder", False, "it is an encoder-decoder"),
    Demand("add_cross_attention", False, "it has cross attention"),
    Demand("use_bidirectional_attention", False, "its attention is not causal"),
    Demand("quantization_config", None, "its weights are already quantized"),
)


@dataclass(frozen=True)
class Sliding:
    """Which layers look back only ``window`` tokens; a "layer_types" list in config.json overrides the pattern."""

    window: Key
    period: int | Key | None = None  # every period-th layer sees all tokens
    first_layer: int | Key = 0  # layers before this one see all tokens
    enabled: bool | Key = True


@dataclass(frozen=True, kw_only=True)
class ArchSpec:
    """One family. ``names`` maps a role of ``arch.point`` to the path of its module in a Hugging Face checkpoint.

    Roles beyond those of ``arch.point``: "positions" (learned), and "qkv" and "gate_up" where a checkpoint fuses
    them; the parts lie one after another along the output, or per head when ``interleaved_qkv``.
    """

    family: str
    model_types: tuple[str, ...]  # config.json "model_type"
    names: Mapping[str, str]
    norm: Literal["rms", "layer"]
    norm_eps: float | Key
    activation: Activation | Key
    gguf: tuple[str, ...] = ()  # GGUF "general.architecture"
    aliases: Mapping[str, str] = field(default_factory=dict)  # module path in other releases → canonical module
    base_prefix: str = "model."  # may be absent in checkpoints of the bare decoder
    ignored: tuple[str, ...] = ()  # endings of buffer names that old checkpoints carry
    hidden_size: Key = HIDDEN_SIZE
    intermediate_size: Key = INTERMEDIATE_SIZE
    intermediate_ratio: int | None = None  # of hidden_size, when the key is missing
    num_layers: Key = NUM_LAYERS
    num_heads: Key = NUM_HEADS
    num_kv_heads: Key = NUM_KV_HEADS
    head_dim: Key = HEAD_DIM
    max_context: Key = MAX_CONTEXT
    rope: RopeRule | None = PLAIN_ROPE
    local_rope: RopeRule | None = None  # for sliding layers, where they differ
    sliding: Sliding | None = None
    attention_scalar: Key | None = None  # scores are divided by its square root instead of head_dim's
    attention_softcap: Key | None = None
    final_softcap: Key | None = None
    gated_mlp: bool = True
    parallel_residual: bool | Key = False
    shared_block_norm: bool | Key = False
    post_norms: bool = False
    qk_norm: bool = False
    gain_offset: float = 0.0  # added to RMSNorm gains at load (Gemma stores gain - 1)
    scaled_embedding: bool = False  # embeddings are multiplied by sqrt(hidden_size)
    position_offset: int = 0  # unused first rows of the learned position table
    transposed: bool = False  # linears of a block are stored (I, O), as GPT-2's Conv1D
    interleaved_qkv: bool = False
    tied_head: Key = UNTIED
    add_bos: bool = False
    demands: tuple[Demand, ...] = ()

    def resolve(self, config: Mapping[str, Any]) -> Architecture:
        """The architecture of one config.json; CheckpointError where it cannot be meant or is not supported."""
        checked = Config(self.family, config)
        self._refuse_variants(checked)
        head_dim = self._head_dim(checked)
        layers = self._layers(checked, head_dim)
        scalar = checked.value(self.attention_scalar) if self.attention_scalar else head_dim
        hidden_size = checked.size(self.hidden_size)
        add_bos = checked.flag(Key("add_bos_token", self.add_bos))
        return Architecture(
            family=self.family,
            vocab_size=checked.size(Key("vocab_size")),
            hidden_size=hidden_size,
            intermediate_size=self._intermediate_size(checked),
            num_heads=checked.size(self.num_heads),
            num_kv_heads=self._num_kv_heads(checked),
            head_dim=head_dim,
            layers=layers,
            norm=self.norm,
            norm_eps=_number(checked, self.norm_eps),
            activation=self._activation(checked),
            attention_scale=checked.check_number("attention scale", scalar) ** -0.5,
            gated_mlp=self.gated_mlp,
            parallel_residual=_flag(checked, self.parallel_residual),
            shared_block_norm=_flag(checked, self.shared_block_norm),
            post_norms=self.post_norms,
            qk_norm=self.qk_norm,
            attention_softcap=_softcap(checked, self.attention_softcap),
            final_softcap=_softcap(checked, self.final_softcap),
            embedding_scale=hidden_size**0.5 if self.scaled_embedding else 1.0,
            learned_positions="positions" in self.names,
            tied_head=checked.flag(self.tied_head),
            max_context=self._max_context(checked),
            bos_token=_bos_token(checked, add_bos),
            add_bos=add_bos,
        )

    def _refuse_variants(self, config: Config) -> None:
        for demand in (*COMMON_DEMANDS, *self.demands):
            wanted = config.value(demand.value) if isinstance(demand.value, Key) else demand.value
            if config.raw.get(demand.key) not in (None, wanted):
                raise config.unsupported(f"{demand.reason} ({demand.key} = {config.raw[demand.key]!r})")

    def _head_dim(self, config: Config) -> int:
        if config.value(self.head_dim) is not None:
            return config.size(self.head_dim, LARGEST_HEAD)
        hidden_size, num_heads = config.size(self.hidden_size), config.size(self.num_heads)
        if hidden_size % num_heads:
            raise config.wrong(self.hidden_size.name, f"{hidden_size} cannot be divided by {num_heads} heads")
        return config.check_size(self.head_dim.name, hidden_size // num_heads, LARGEST_HEAD)

    def _num_kv_heads(self, config: Config) -> int:
        num_heads = config.size(self.num_heads)
        if config.value(self.num_kv_heads) is None:
            return num_heads
        num_kv_heads = config.size(self.num_kv_heads)
        if num_heads % num_kv_heads:
            raise config.wrong(self.num_kv_heads.name, f"{num_kv_heads} does not divide {num_heads} query heads")
        return num_kv_heads

    def _intermediate_size(self, config: Config) -> int:
        if self.intermediate_ratio and config.raw.get(self.intermediate_size.name) is None:
            return self.intermediate_ratio * config.size(self.hidden_size)
        return config.size(self.intermediate_size)

    def _activation(self, config: Config) -> Activation:
        if not isinstance(self.activation, Key):
            return self.activation
        found = config.value(self.activation)
        if not isinstance(found, str) or found not in ACTIVATIONS:
            raise config.unsupported(f"activation {found!r} is unknown here (known: {', '.join(ACTIVATIONS)})")
        return ACTIVATIONS[found]

    def _max_context(self, config: Config) -> int:
        context = config.size(self.max_context)
        if self.rope:
            parameters = rope_parameters(self.rope, config, FULL)
            if rope_kind(parameters) == "longrope":
                return min(context, trained_context(parameters, config))
        return context

    def _layers(self, config: Config, head_dim: int) -> tuple[Layer, ...]:
        kinds = self._layer_types(config)
        window = config.optional_size(self.sliding.window) if self.sliding else None
        made = {
            FULL: Layer(self._rope(self.rope, config, head_dim, FULL)),
            SLIDING: Layer(self._rope(self.local_rope or self.rope, config, head_dim, SLIDING), window),
        }
        return tuple(made[kind] for kind in kinds)

    def _rope(self, rule: RopeRule | None, config: Config, head_dim: int, layer_type: str) -> Rope | None:
        return resolve_rope(rule, config, head_dim, layer_type) if rule else None

    def _layer_types(self, config: Config) -> list[str]:
        """The kind of every layer: from "layer_types", else from the family's pattern."""
        depth = config.size(self.num_layers, LARGEST_DEPTH)
        sliding = self.sliding
        if sliding is None or not _flag(config, sliding.enabled):
            return [FULL] * depth
        given = config.raw.get("layer_types")
        if given is not None:
            if not isinstance(given, list) or len(given) != depth or any(kind not in (FULL, SLIDING) for kind in given):
                raise config.wrong("layer_types", f"must name {FULL} or {SLIDING} for each of {depth} layers")
            return given
        first = _plain(config, sliding.first_layer)
        period = None if sliding.period is None else config.check_size("sliding period", _plain(config, sliding.period))
        if isinstance(first, bool) or not isinstance(first, int):
            raise config.wrong("max_window_layers", f"must be an integer, but is {first!r}")
        is_full = (layer < first or (period and (layer + 1) % period == 0) for layer in range(depth))
        return [FULL if full else SLIDING for full in is_full]


def _bos_token(config: Config, add_bos: bool) -> int | None:
    """BOS; none where the vocabulary lacks it, which is an error only if texts are to begin with it."""
    key, vocab_size = Key("bos_token_id"), config.size(Key("vocab_size"))
    bos = config.optional_token(key)
    if bos is None or bos < vocab_size:
        return bos
    if add_bos:
        raise config.wrong(key.name, f"{bos} is outside the vocabulary of {vocab_size}")
    return None


def _plain(config: Config, source: Any) -> Any:
    return config.value(source) if isinstance(source, Key) else source


def _flag(config: Config, source: bool | Key) -> bool:
    return config.flag(source) if isinstance(source, Key) else source


def _number(config: Config, source: float | Key) -> float:
    return config.check_number(source.name, config.value(source)) if isinstance(source, Key) else source


def _softcap(config: Config, source: Key | None) -> float | None:
    found = config.nullable(source) if source else None
    return None if found is None or source is None else config.check_number(source.name, found)
