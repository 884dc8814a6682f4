"""OPT: LayerNorm and biases everywhere, learned positions whose first two rows are unused, ReLU without a gate."""

from mobilequant.arch.config import Key
from mobilequant.arch.spec import ArchSpec, Demand

SPEC = ArchSpec(
    family="opt",
    model_types=("opt",),
    names={
        "embed": "model.decoder.embed_tokens",
        "positions": "model.decoder.embed_positions",
        "attn_norm": "model.decoder.layers.{i}.self_attn_layer_norm",
        "q": "model.decoder.layers.{i}.self_attn.q_proj",
        "k": "model.decoder.layers.{i}.self_attn.k_proj",
        "v": "model.decoder.layers.{i}.self_attn.v_proj",
        "o": "model.decoder.layers.{i}.self_attn.out_proj",
        "mlp_norm": "model.decoder.layers.{i}.final_layer_norm",
        "up": "model.decoder.layers.{i}.fc1",
        "down": "model.decoder.layers.{i}.fc2",
        "final_norm": "model.decoder.final_layer_norm",
        "lm_head": "lm_head",
    },
    norm="layer",
    norm_eps=1e-5,
    activation=Key("activation_function", "relu"),
    intermediate_size=Key("ffn_dim"),
    num_kv_heads=Key("num_attention_heads"),
    rope=None,
    position_offset=2,
    gated_mlp=False,
    tied_head=Key("tie_word_embeddings", True),
    add_bos=True,
    demands=(
        Demand("do_layer_norm_before", True, "norms after the branches (OPT-350M)"),
        Demand("word_embed_proj_dim", Key("hidden_size"), "a projected embedding (OPT-350M)"),
        Demand("_remove_final_layer_norm", False, "no final norm"),
        Demand("layer_norm_elementwise_affine", True, "norms without gains"),
    ),
)
