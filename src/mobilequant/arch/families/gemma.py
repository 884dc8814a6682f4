"""Gemma 1: Llama's modules, gains stored as gain - 1, scaled embeddings, tied head."""

from mobilequant.arch.config import Key
from mobilequant.arch.families.llama import NAMES
from mobilequant.arch.spec import ArchSpec

SPEC = ArchSpec(
    family="gemma",
    model_types=("gemma",),
    gguf=("gemma",),
    names=NAMES,
    norm="rms",
    norm_eps=Key("rms_norm_eps", 1e-6),
    activation="gelu_tanh",  # a "gelu" in early config.json files always meant the tanh form
    head_dim=Key("head_dim", 256),
    gain_offset=1.0,
    scaled_embedding=True,
    tied_head=Key("tie_word_embeddings", True),
    add_bos=True,
)
