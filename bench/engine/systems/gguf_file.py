"""From a Hugging Face folder of a Llama to a GGUF file of 16-bit floats, with the same weights.

Matrices keep their shape (O, I). Rows of q and k change places within each head: llama.cpp turns dimensions 2i and
2i + 1 together, Hugging Face i and i + D/2. A tied head is left out; llama.cpp then reads the embedding.
There is no tokenizer in the file: every program of this comparison reads and writes token ids.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

from mobilequant.data.cache import publish_file

_OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_INNER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(folder: Path, target: Path) -> Path:
    """The file, made if it is not there."""
    if target.is_file():
        return target
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    with publish_file(target) as made:
        writer = gguf.GGUFWriter(made, "llama")
        _write_config(writer, config)
        for name, tensor in tensors.items():
            if not (name == "lm_head.weight" and config.get("tie_word_embeddings")):
                writer.add_tensor(gguf_name(name), _stored(name, tensor, config))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return target


def gguf_name(name: str) -> str:
    """The name that llama.cpp gives a tensor of Hugging Face's name."""
    if name in _OUTER:
        return _OUTER[name]
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{_INNER[part.removesuffix('.weight')]}.weight"


def interleaved(matrix: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows (H·D, I) from the order 0, 1, … to 0, D/2, 1, D/2 + 1, … within each of ``heads`` heads."""
    rows, inputs = matrix.shape
    return matrix.view(heads, 2, rows // heads // 2, inputs).transpose(1, 2).reshape(rows, inputs)


def _stored(name: str, tensor: torch.Tensor, config: dict[str, Any]) -> np.ndarray[Any, Any]:
    if tensor.dim() == 1:
        return tensor.float().numpy()
    if "q_proj" in name or "k_proj" in name:
        kind = "num_attention_heads" if "q_proj" in name else "num_key_value_heads"
        tensor = interleaved(tensor, config[kind])
    return tensor.half().contiguous().numpy()


def _write_config(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("none")
