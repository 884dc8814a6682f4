"""GPT-2: LayerNorm and biases, learned positions, one fused qkv, all block weights stored transposed (Conv1D)."""

from mobilequant.arch.config import Key
from mobilequant.arch.spec import ArchSpec, Demand

SPEC = ArchSpec(
    family="gpt2",
    model_types=("gpt2",),
    gguf=("gpt2",),
    names={
        "embed": "transformer.wte",
        "positions": "transformer.wpe",
        "attn_norm": "transformer.h.{i}.ln_1",
        "qkv": "transformer.h.{i}.attn.c_attn",
        "o": "transformer.h.{i}.attn.c_proj",
        "mlp_norm": "transformer.h.{i}.ln_2",
        "up": "transformer.h.{i}.mlp.c_fc",
        "down": "transformer.h.{i}.mlp.c_proj",
        "final_norm": "transformer.ln_f",
        "lm_head": "lm_head",
    },
    base_prefix="transformer.",
    ignored=("attn.bias", "attn.masked_bias"),
    norm="layer",
    norm_eps=Key("layer_norm_epsilon", 1e-5),
    activation=Key("activation_function", "gelu_new"),
    hidden_size=Key("n_embd"),
    intermediate_size=Key("n_inner"),
    intermediate_ratio=4,
    num_layers=Key("n_layer"),
    num_heads=Key("n_head"),
    num_kv_heads=Key("n_head"),
    max_context=Key("n_positions", 1024),
    rope=None,
    gated_mlp=False,
    transposed=True,
    tied_head=Key("tie_word_embeddings", True),
    demands=(
        Demand("scale_attn_weights", True, "unscaled attention"),
        Demand("scale_attn_by_inverse_layer_idx", False, "attention scaled by depth"),
    ),
)
