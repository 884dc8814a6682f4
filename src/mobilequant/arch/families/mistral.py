"""Mistral 7B: Llama with a sliding window on every layer (later releases set it to null)."""

from mobilequant.arch.config import Key
from mobilequant.arch.families.llama import NAMES
from mobilequant.arch.spec import ArchSpec, Sliding

SPEC = ArchSpec(
    family="mistral",
    model_types=("mistral",),
    names=NAMES,
    norm="rms",
    norm_eps=Key("rms_norm_eps", 1e-6),
    activation=Key("hidden_act", "silu"),
    sliding=Sliding(Key("sliding_window", 4096)),
    num_kv_heads=Key("num_key_value_heads", 8),
    add_bos=True,
)
