"""Phi-3 and Phi-4-mini: Llama with fused qkv and gate_up, sometimes a sliding window or LongRoPE."""

from mobilequant.arch.config import Key
from mobilequant.arch.families.llama import NAMES
from mobilequant.arch.spec import ArchSpec, Sliding

SPLIT = ("q", "k", "v", "gate", "up")

SPEC = ArchSpec(
    family="phi3",
    model_types=("phi3",),
    gguf=("phi3",),
    names={
        **{role: name for role, name in NAMES.items() if role not in SPLIT},
        "qkv": "model.layers.{i}.self_attn.qkv_proj",
        "gate_up": "model.layers.{i}.mlp.gate_up_proj",
    },
    norm="rms",
    norm_eps=Key("rms_norm_eps", 1e-5),
    activation=Key("hidden_act", "silu"),
    sliding=Sliding(Key("sliding_window", None)),
)
