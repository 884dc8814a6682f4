"""Qwen 3 (dense): Qwen 2 without biases, with an RMSNorm on every head of q and k."""

from mobilequant.arch.config import Key
from mobilequant.arch.families.llama import NAMES
from mobilequant.arch.families.qwen2 import SLIDING
from mobilequant.arch.spec import ArchSpec

QK_NORM_NAMES = {
    "q_norm": "model.layers.{i}.self_attn.q_norm",
    "k_norm": "model.layers.{i}.self_attn.k_norm",
}

SPEC = ArchSpec(
    family="qwen3",
    model_types=("qwen3",),
    gguf=("qwen3",),
    names={**NAMES, **QK_NORM_NAMES},
    norm="rms",
    norm_eps=Key("rms_norm_eps", 1e-6),
    activation=Key("hidden_act", "silu"),
    head_dim=Key("head_dim", 128),
    qk_norm=True,
    sliding=SLIDING,
)
