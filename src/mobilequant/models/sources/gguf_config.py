"""GGUF metadata as a Hugging Face config.json. A family is one entry of ``FAMILIES``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mobilequant.arch import registry
from mobilequant.arch.spec import ArchSpec
from mobilequant.errors import CheckpointError
from mobilequant.models.sources.gguf_header import GGUFHeader
from mobilequant.models.sources.gguf_rope import rope_scaling

ARCHITECTURE = "general.architecture"
EMBEDDING, OUTPUT, QUERY_BIAS = "token_embd.weight", "output.weight", "blk.0.attn_q.bias"

# Hugging Face key ← GGUF key behind "<architecture>."
REQUIRED = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
}
OPTIONAL = {
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rope_theta": "rope.freq_base",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
SLIDING = {"sliding_window": "attention.sliding_window"}
SOFTCAPS = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
GELU = {"hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh"}
SILU = {"hidden_act": "silu"}
TOKENS = {
    f"{name}_token_id": f"tokenizer.ggml.{gguf}_token_id"
    for name, gguf in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
}


@dataclass(frozen=True)
class Family:
    """How the GGUF files of one architecture differ from the common case."""

    model_class: str  # as transformers calls it, for other programs that read the folder
    constants: Mapping[str, Any]
    optional: Mapping[str, str] = field(default_factory=dict)
    interleaved_rope: bool = False  # rows of q and k lie in pairs (2i, 2i+1) instead of (i, i + D/2)
    partial_rotary: bool = False
    bias_key: str | None = None  # says whether q, k and v have biases
    # The number of layers of the one size whose scores are divided by sqrt(hidden_size / heads), not sqrt(head_dim).
    depth_scaled_by_width: int | None = None


FAMILIES = {
    "llama": Family("LlamaForCausalLM", SILU, interleaved_rope=True),
    "qwen2": Family("Qwen2ForCausalLM", SILU),
    "qwen3": Family("Qwen3ForCausalLM", SILU),
    "gemma": Family("GemmaForCausalLM", GELU),
    "gemma2": Family("Gemma2ForCausalLM", GELU, {**SLIDING, **SOFTCAPS}, depth_scaled_by_width=46),
    "gemma3": Family(
        "Gemma3ForCausalLM",
        {**GELU, "rope_local_base_freq": 10_000.0, "sliding_window_pattern": 6},
        {**SLIDING, **SOFTCAPS},
        depth_scaled_by_width=62,
    ),
    "phi3": Family(
        "Phi3ForCausalLM",
        SILU,
        {**SLIDING, "original_max_position_embeddings": "rope.scaling.original_context_length"},
        partial_rotary=True,
    ),
    "stablelm": Family(
        "StableLmForCausalLM",
        SILU,
        {"layer_norm_eps": "attention.layer_norm_epsilon", "use_parallel_residual": "use_parallel_residual"},
        partial_rotary=True,
        bias_key="use_qkv_bias",
    ),
}


def find_family(header: GGUFHeader) -> tuple[Family, ArchSpec]:
    """What the converter and what ``arch`` know of the file's architecture. Raises CheckpointError when nothing."""
    name = header.metadata.get(ARCHITECTURE)
    specs = [spec for spec in registry.SPECS if name in spec.gguf]
    if name not in FAMILIES or not specs:
        raise CheckpointError(
            f"GGUF files of the architecture {name!r} cannot be converted (known: {', '.join(FAMILIES)}).",
            "Use the model's Hugging Face folder with safetensors instead.",
        )
    return FAMILIES[name], specs[0]


def hf_config(header: GGUFHeader, side_tensors: Mapping[str, list[float]]) -> dict[str, Any]:
    """The config.json of a GGUF file; ``side_tensors`` are the values of its rope tables, by name.

    Raises CheckpointError when a size is missing or the architecture is not known.
    """
    family, spec = find_family(header)
    metadata = _Metadata(header)
    sizes = {key: metadata.required(name) for key, name in REQUIRED.items()}
    wanted = {**OPTIONAL, **family.optional}
    found = {key: value for key, name in wanted.items() if (value := metadata.optional(name)) is not None}
    config: dict[str, Any] = {
        "architectures": [family.model_class],
        "model_type": spec.model_types[0],
        **family.constants,
        **sizes,
        **found,
        "vocab_size": _vocab_size(header),
        "tie_word_embeddings": OUTPUT not in header.tensors,
        **{key: header.metadata[name] for key, name in TOKENS.items() if name in header.metadata},
    }
    config.setdefault("num_key_value_heads", config["num_attention_heads"])
    if family.bias_key:
        config[family.bias_key] = QUERY_BIAS in header.tensors
    if family.partial_rotary:
        config["partial_rotary_factor"] = _partial_rotary(metadata, config)
    if family.depth_scaled_by_width:
        config["query_pre_attn_scalar"] = _attention_scalar(family, config)
    scaling = rope_scaling(metadata.prefix, header.metadata, side_tensors, config)
    return {**config, "rope_scaling": scaling} if scaling else config


class _Metadata:
    """Numbers under the architecture's own prefix."""

    def __init__(self, header: GGUFHeader) -> None:
        self._values = header.metadata
        self.prefix = str(header.metadata[ARCHITECTURE])

    def required(self, name: str) -> int:
        value = self.optional(name)
        if not isinstance(value, int) or value < 1:
            raise CheckpointError(
                f"The GGUF entry {self.prefix}.{name} is {value!r}; a positive number is needed.",
                "Models whose layers differ in size are not supported; otherwise download the file again.",
            )
        return value

    def optional(self, name: str) -> int | float | bool | None:
        """The value; None when it is missing or 0, which GGUF writers use for "none"."""
        value = self._values.get(f"{self.prefix}.{name}")
        if value is not None and not (isinstance(value, int | float) and 0 <= value < math.inf):
            raise CheckpointError(
                f"The GGUF entry {self.prefix}.{name} is {value!r:.60}; one number is needed.",
                "Models whose layers differ in size are not supported; otherwise download the file again.",
            )
        return value or None


def _vocab_size(header: GGUFHeader) -> int:
    if EMBEDDING not in header.tensors:
        raise CheckpointError(f"The GGUF file has no tensor {EMBEDDING}.", "Download it again.")
    return header.tensors[EMBEDDING].shape[0]


def _head_dim(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _partial_rotary(metadata: _Metadata, config: Mapping[str, Any]) -> float:
    return (metadata.optional("rope.dimension_count") or _head_dim(config)) / max(1, _head_dim(config))


def _attention_scalar(family: Family, config: Mapping[str, Any]) -> int:
    if config["num_hidden_layers"] == family.depth_scaled_by_width:
        return int(config["hidden_size"] // config["num_attention_heads"])
    return _head_dim(config)
