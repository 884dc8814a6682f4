"""Llama 1-3, SmolLM2, TinyLlama and the many models that share their shape."""

from mobilequant.arch.config import Key
from mobilequant.arch.spec import ArchSpec

NAMES = {
    "embed": "model.embed_tokens",
    "attn_norm": "model.layers.{i}.input_layernorm",
    "q": "model.layers.{i}.self_attn.q_proj",
    "k": "model.layers.{i}.self_attn.k_proj",
    "v": "model.layers.{i}.self_attn.v_proj",
    "o": "model.layers.{i}.self_attn.o_proj",
    "mlp_norm": "model.layers.{i}.post_attention_layernorm",
    "gate": "model.layers.{i}.mlp.gate_proj",
    "up": "model.layers.{i}.mlp.up_proj",
    "down": "model.layers.{i}.mlp.down_proj",
    "final_norm": "model.norm",
    "lm_head": "lm_head",
}

SPEC = ArchSpec(
    family="llama",
    model_types=("llama",),
    gguf=("llama",),
    names=NAMES,
    norm="rms",
    norm_eps=Key("rms_norm_eps", 1e-6),
    activation=Key("hidden_act", "silu"),
)
