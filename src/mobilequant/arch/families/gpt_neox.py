"""GPT-NeoX and Pythia: attention and MLP side by side, LayerNorm and biases, qkv interleaved per head."""

from mobilequant.arch.config import Key
from mobilequant.arch.rope import RopeRule
from mobilequant.arch.spec import ArchSpec

SPEC = ArchSpec(
    family="gpt_neox",
    model_types=("gpt_neox",),
    gguf=("gptneox",),
    names={
        "embed": "gpt_neox.embed_in",
        "attn_norm": "gpt_neox.layers.{i}.input_layernorm",
        "qkv": "gpt_neox.layers.{i}.attention.query_key_value",
        "o": "gpt_neox.layers.{i}.attention.dense",
        "mlp_norm": "gpt_neox.layers.{i}.post_attention_layernorm",
        "up": "gpt_neox.layers.{i}.mlp.dense_h_to_4h",
        "down": "gpt_neox.layers.{i}.mlp.dense_4h_to_h",
        "final_norm": "gpt_neox.final_layer_norm",
        "lm_head": "embed_out",
    },
    aliases={"lm_head": "lm_head"},  # what transformers 5 calls embed_out
    base_prefix="gpt_neox.",
    ignored=("attention.bias", "attention.masked_bias"),
    norm="layer",
    norm_eps=Key("layer_norm_eps", 1e-5),
    activation=Key("hidden_act", "gelu"),
    num_kv_heads=Key("num_attention_heads"),
    rope=RopeRule(theta_key="rotary_emb_base", partial=0.25, partial_key="rotary_pct"),
    gated_mlp=False,
    parallel_residual=Key("use_parallel_residual", True),
    interleaved_qkv=True,
)
