"""A Hugging Face folder: config.json, safetensors, tokenizer files. Nothing in it is ever executed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mobilequant.errors import CheckpointError
from mobilequant.models.canonical import build_model
from mobilequant.models.json_file import read_json
from mobilequant.models.model import Model
from mobilequant.models.sources.shard import open_shards
from mobilequant.models.tokenizer import adds_bos
from mobilequant.pipeline.resource import require_memory

CONFIG = "config.json"
_FLOAT_BYTES = 4  # every tensor becomes float32
log = logging.getLogger(__name__)


def load_folder(folder: Path, *, source: str = "") -> Model:
    """The model in a folder; ``source`` is how reports name it (default: the folder).

    Raises CheckpointError when anything in the folder is missing, damaged, or not supported, ResourceError when memory
    is too small.
    """
    config, shards = read_config(folder), open_shards(folder)
    require_memory(shards.num_elements() * _FLOAT_BYTES, f"loading {folder}")
    return build_model(config, shards, tokenizer_dir=folder, source=source or str(folder))


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a folder, with "add_bos_token" added where the tokenizer tells (``tokenizer.adds_bos``)."""
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} has no {CONFIG}.", _nearby(folder))
    config = read_json(folder / CONFIG)
    if "text_config" in config:
        raise CheckpointError(
            f"{folder / CONFIG} describes a model of several parts, of which the language model is one (text_config).",
            "Load it in transformers and save the language model alone: model.language_model.save_pretrained(…).",
        )
    if "auto_map" in config:
        log.warning("%s names remote code (auto_map); it is ignored, the family's own description counts", folder)
    stated = adds_bos(folder)
    return config if stated is None else {**config, "add_bos_token": stated}


def _nearby(folder: Path) -> str:
    gguf = sorted(folder.glob("*.gguf"))
    return f"Give the file: {gguf[0]}" if gguf else "Give the folder that holds config.json and the .safetensors files."
