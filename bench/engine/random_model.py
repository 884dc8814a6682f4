"""A Hugging Face folder of random weights in the shape of TinyLlama-1.1B: times are real, the model is not.

    python -m engine.random_model FOLDER

Its context is 8192 tokens instead of TinyLlama's 2048, so that decoding can be timed behind 4096. Its tokenizer is that
of the built-in model, cut to the vocabulary: tokens of a byte-pair encoding are numbered in the order of their merges,
so that the first ones are a tokenizer of their own.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mobilequant.data.cache import publish_folder
from mobilequant.models.sources.resolver import resolve_folder

TOKENIZER_OF = "smollm2-135m"
_SPREAD = 0.02  # standard deviation of every matrix: what language models begin training with


@dataclass(frozen=True)
class Config:
    """What a Llama needs; ``seed`` orders the weights."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    context: int
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": self.context,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "vocab_size": self.vocab,
        }


LLAMA_1B = Config(hidden=2048, inner=5632, layers=22, heads=32, kv_heads=4, vocab=32000, context=8192)


def write_random_model(folder: Path, config: Config) -> Path:
    """The folder, made if it is not there: config.json, model.safetensors (float16), tokenizer files."""
    if folder.is_dir():
        return folder
    with publish_folder(folder) as made:
        (made / "config.json").write_text(json.dumps(config.as_json(), indent=2))
        save_file(random_tensors(config), made / "model.safetensors", metadata={"format": "pt"})
        write_cut_tokenizer(resolve_folder(TOKENIZER_OF), made, config.vocab)
    return folder


def random_tensors(config: Config) -> dict[str, Tensor]:
    """By Hugging Face name, matrices (O, I) normal with standard deviation 0.02, gains 1."""
    generator = torch.Generator().manual_seed(config.seed)

    def matrix(outputs: int, inputs: int) -> Tensor:
        return (torch.randn(outputs, inputs, generator=generator) * _SPREAD).half()

    width, keys = config.hidden, config.hidden // config.heads * config.kv_heads
    tensors = {"model.embed_tokens.weight": matrix(config.vocab, width)}
    for layer in range(config.layers):
        shapes = {
            "self_attn.q_proj": (width, width),
            "self_attn.k_proj": (keys, width),
            "self_attn.v_proj": (keys, width),
            "self_attn.o_proj": (width, width),
            "mlp.gate_proj": (config.inner, width),
            "mlp.up_proj": (config.inner, width),
            "mlp.down_proj": (width, config.inner),
        }
        tensors |= {f"model.layers.{layer}.{name}.weight": matrix(*shape) for name, shape in shapes.items()}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{norm}.weight"] = torch.ones(width).half()
    tensors["model.norm.weight"] = torch.ones(width).half()
    tensors["lm_head.weight"] = matrix(config.vocab, width)
    return tensors


def write_cut_tokenizer(source: Path, folder: Path, vocab: int) -> None:
    """Copy a byte-pair tokenizer with only its first ``vocab`` tokens."""
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(cut(tokenizer, vocab), ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text((source / "tokenizer_config.json").read_text())


def cut(tokenizer: dict[str, Any], vocab: int) -> dict[str, Any]:
    """tokenizer.json with only the tokens below ``vocab``, and the merges that make and need no other."""
    model = tokenizer["model"]
    kept = {token: number for token, number in model["vocab"].items() if number < vocab}
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    merges = [list(pair) for pair in pairs if {*pair, "".join(pair)} <= kept.keys()]
    added = [token for token in tokenizer.get("added_tokens", []) if token["id"] < vocab]
    return {**tokenizer, "added_tokens": added, "model": {**model, "vocab": kept, "merges": merges}}


if __name__ == "__main__":
    print(write_random_model(Path(sys.argv[1]), LLAMA_1B))
