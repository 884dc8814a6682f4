"""Qwen 2 and 2.5: Llama with biases on q, k, v; long-context variants slide in the upper layers."""

from mobilequant.arch.config import Key
from mobilequant.arch.families.llama import NAMES
from mobilequant.arch.spec import ArchSpec, Sliding

SLIDING = Sliding(
    window=Key("sliding_window", 4096),
    first_layer=Key("max_window_layers", 28),
    enabled=Key("use_sliding_window", False),
)

SPEC = ArchSpec(
    family="qwen2",
    model_types=("qwen2",),
    gguf=("qwen2",),
    names=NAMES,
    norm="rms",
    norm_eps=Key("rms_norm_eps", 1e-6),
    activation=Key("hidden_act", "silu"),
    sliding=SLIDING,
)
