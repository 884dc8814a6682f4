"""A GGUF file becomes a Hugging Face folder, once: kept in the cache under the sha256 of the file."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

from safetensors.torch import save_file

from mobilequant.data.cache import cache_dir, publish_folder, require_space
from mobilequant.data.package import sha256_of
from mobilequant.models.sources.folder import CONFIG
from mobilequant.models.sources.gguf_config import find_family, hf_config
from mobilequant.models.sources.gguf_header import GGUFHeader, read_header
from mobilequant.models.sources.gguf_tensor import hf_tensors, side_tables
from mobilequant.models.sources.gguf_tokenizer import save_tokenizer
from mobilequant.models.sources.shard import SINGLE
from mobilequant.pipeline.resource import require_memory

CONVERTER_VERSION = 1  # raise it when the folder that comes out changes
_COPIES = 2  # of the folder in memory: its tensors, and their bytes on the way to disk
log = logging.getLogger(__name__)


def converted_folder(sha256: str) -> Path:
    """Where the conversion of the GGUF file with this hash lies, or would lie."""
    return cache_dir() / "models" / f"{sha256[:32]}-v{CONVERTER_VERSION}"


def open_gguf(path: Path) -> Path:
    """The Hugging Face folder of a GGUF file, converted on first use.

    Raises CheckpointError when the file is damaged or of an unknown kind, ResourceError when disk or memory are too
    small.
    """
    header = read_header(path)
    folder = converted_folder(sha256_of(path))
    if not folder.is_dir():
        require_space(cache_dir(), folder_bytes(header))
        require_memory(_COPIES * folder_bytes(header), f"converting {path}")
        log.info("converting %s to %s", path, folder)
        with publish_folder(folder) as temporary:
            convert(path, header, temporary)
    return folder


def folder_bytes(header: GGUFHeader) -> int:
    """About how large the folder becomes, at most: half-precision weights and 64 MB for the tokenizer."""
    return sum(max(2 * math.prod(tensor.shape), tensor.num_bytes) for tensor in header.tensors.values()) + 64_000_000


def convert(path: Path, header: GGUFHeader, folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer of a GGUF file into ``folder``."""
    family, spec = find_family(header)
    config = hf_config(header, side_tables(path, header))
    spec.resolve(config)  # refuses what cannot be loaded before the long work
    heads = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"]}
    tensors = dict(hf_tensors(path, header, spec, heads if family.interleaved_rope else {}))
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / SINGLE, {"format": "pt"})
    save_tokenizer(path, header, folder)
