"""Gemma 2: Gemma with a norm after each branch, soft-caps, and every other layer local."""

from mobilequant.arch.config import Key
from mobilequant.arch.families.llama import NAMES
from mobilequant.arch.spec import ArchSpec, Sliding

POST_NORM_NAMES = {
    **NAMES,
    "attn_post_norm": "model.layers.{i}.post_attention_layernorm",
    "mlp_norm": "model.layers.{i}.pre_feedforward_layernorm",
    "mlp_post_norm": "model.layers.{i}.post_feedforward_layernorm",
}

SPEC = ArchSpec(
    family="gemma2",
    model_types=("gemma2",),
    gguf=("gemma2",),
    names=POST_NORM_NAMES,
    norm="rms",
    norm_eps=Key("rms_norm_eps", 1e-6),
    activation=Key("hidden_activation", "gelu_pytorch_tanh"),
    head_dim=Key("head_dim", 256),
    num_kv_heads=Key("num_key_value_heads", 4),
    sliding=Sliding(Key("sliding_window", 4096), period=2),
    attention_scalar=Key("query_pre_attn_scalar", 256),
    attention_softcap=Key("attn_logit_softcapping", 50.0),
    final_softcap=Key("final_logit_softcapping", 30.0),
    post_norms=True,
    gain_offset=1.0,
    scaled_embedding=True,
    tied_head=Key("tie_word_embeddings", True),
    add_bos=True,
)
