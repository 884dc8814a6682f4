"""Gemma 3 text: Gemma 2 with QK norm instead of soft-caps, and five local layers (own rope) to a global one."""

from mobilequant.arch.config import Key
from mobilequant.arch.families.gemma2 import POST_NORM_NAMES
from mobilequant.arch.families.qwen3 import QK_NORM_NAMES
from mobilequant.arch.rope import RopeRule
from mobilequant.arch.spec import ArchSpec, Sliding

SPEC = ArchSpec(
    family="gemma3",
    model_types=("gemma3_text",),
    gguf=("gemma3",),
    names={**POST_NORM_NAMES, **QK_NORM_NAMES},
    norm="rms",
    norm_eps=Key("rms_norm_eps", 1e-6),
    activation=Key("hidden_activation", "gelu_pytorch_tanh"),
    head_dim=Key("head_dim", 256),
    num_kv_heads=Key("num_key_value_heads", 4),
    max_context=Key("max_position_embeddings", 131_072),
    rope=RopeRule(theta=1e6),
    local_rope=RopeRule(theta=1e4, theta_key="rope_local_base_freq", scaled=False),
    sliding=Sliding(Key("sliding_window", 4096), period=Key("sliding_window_pattern", 6)),
    attention_scalar=Key("query_pre_attn_scalar", 256),
    attention_softcap=Key("attn_logit_softcapping", None),
    final_softcap=Key("final_logit_softcapping", None),
    post_norms=True,
    qk_norm=True,
    gain_offset=1.0,
    scaled_embedding=True,
    tied_head=Key("tie_word_embeddings", True),
    add_bos=True,
)
