"""StableLM 2: Llama's modules with LayerNorm, a quarter of each head turned, optional biases on q, k, v."""

from mobilequant.arch.config import Key
from mobilequant.arch.families.llama import NAMES
from mobilequant.arch.rope import RopeRule
from mobilequant.arch.spec import ArchSpec, Demand

SPEC = ArchSpec(
    family="stablelm",
    model_types=("stablelm",),
    gguf=("stablelm",),
    names=NAMES,
    norm="layer",
    norm_eps=Key("layer_norm_eps", 1e-5),
    activation=Key("hidden_act", "silu"),
    rope=RopeRule(partial=0.25),
    parallel_residual=Key("use_parallel_residual", False),
    shared_block_norm=Key("use_parallel_residual", False),
    demands=(Demand("qk_layernorm", False, "a separate LayerNorm per query and key head"),),
)
