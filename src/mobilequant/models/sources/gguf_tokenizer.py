"""The tokenizer inside a GGUF file, saved as a Hugging Face one. transformers does the conversion."""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mobilequant.errors import CheckpointError
from mobilequant.models.json_file import read_json
from mobilequant.models.sources.gguf_header import GGUFHeader
from mobilequant.models.tokenizer import FILE, SETTINGS, read_settings

MERGING = ("gpt2", "llama")  # what llama.cpp calls byte-level BPE, and BPE by SentencePiece
MODEL, ADD_BOS, PRE = "tokenizer.ggml.model", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.pre"
HERE_ONLY = ("is_local", "local_files_only")  # transformers records how it was called


def save_tokenizer(path: Path, header: GGUFHeader, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and the chat template of a GGUF file into ``folder``.

    Raises CheckpointError when the file has no tokenizer, one that cannot be converted, or one that this release of
    transformers converts to something else.
    """
    if MODEL not in header.metadata:
        raise _no_tokenizer(path, "it holds none")
    from transformers import AutoTokenizer

    try:
        # Alone in a folder, so that no file beside it is taken for part of the tokenizer.
        with tempfile.TemporaryDirectory() as alone:
            (Path(alone) / "model.gguf").symlink_to(path.resolve())
            tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file="model.gguf", local_files_only=True)
        tokenizer.save_pretrained(folder)
    except Exception as error:  # whatever a hostile file makes the converter trip over
        raise _no_tokenizer(path, f"{type(error).__name__}: {error}") from error
    _require_merges(path, header, folder)
    settings = {name: value for name, value in read_settings(folder).items() if name not in HERE_ONLY}
    settings["add_bos_token"] = adds_bos(header.metadata)
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def adds_bos(metadata: dict[str, Any]) -> bool:
    """Whether texts begin with BOS: as stated, else as llama.cpp assumes (SentencePiece and Llama 3 do)."""
    stated = metadata.get(ADD_BOS)
    return stated if isinstance(stated, bool) else metadata[MODEL] == "llama" or metadata.get(PRE) == "llama-bpe"


def _require_merges(path: Path, header: GGUFHeader, folder: Path) -> None:
    """Refuse a conversion that cuts texts in another way: some releases of transformers make one, and say nothing."""
    found, release = read_json(folder / FILE)["model"]["type"], version("transformers")
    if header.metadata[MODEL] in MERGING and found != "BPE":
        raise CheckpointError(
            f"The tokenizer of {path.name} has merges, and transformers {release} makes a {found} of it.",
            "Run `pip install 'transformers>=5.23'` and try again, or use the model's Hugging Face folder.",
        )


def _no_tokenizer(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"The tokenizer of {path.name} cannot be converted: {reason}.",
        "Use the model's Hugging Face folder, which has a tokenizer.json.",
    )
