"""Tensors of one or many safetensors files, read one by one as they are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mobilequant.errors import CheckpointError
from mobilequant.models.json_file import AGAIN, read_json
from mobilequant.models.safetensors_header import check_header
from mobilequant.models.sources.pickle_file import PICKLES, pickle_refused

SUFFIX = ".safetensors"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class Shards(Mapping[str, Tensor]):
    """All tensors of a checkpoint by name, none of them loaded before it is asked for.

    Access raises CheckpointError when a tensor cannot be read.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        """``files``: tensor name → the safetensors file that holds it."""
        self._files = files
        self._readers = {file: open_shard(file) for file in sorted(set(files.values()))}
        for name, file in files.items():
            if name not in self._readers[file].keys():  # noqa: SIM118 (the reader is no mapping)
                raise CheckpointError(f"{file} lacks the tensor {name!r} that the index places there.", AGAIN)

    def __getitem__(self, name: str) -> Tensor:
        file = self._files[name]
        try:
            return self._readers[file].get_tensor(name)
        except (SafetensorError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise _corrupt(file, f"tensor {name!r} cannot be read ({error})") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def num_elements(self) -> int:
        """Numbers in all tensors together; nothing is loaded for it."""
        return sum(math.prod(self._readers[file].get_slice(name).get_shape()) for name, file in self._files.items())


def open_shards(folder: Path) -> Shards:
    """The tensors of a Hugging Face folder. Raises CheckpointError when files are missing, damaged or pickles."""
    if (folder / INDEX).is_file():
        return Shards(_indexed_files(folder))
    found = sorted(folder.glob(f"*{SUFFIX}"))
    file = folder / SINGLE if folder / SINGLE in found else found[0] if len(found) == 1 else None
    if file is None:
        raise _no_weights(folder, found)
    return Shards(dict.fromkeys(open_shard(file).keys(), file))


def _indexed_files(folder: Path) -> dict[str, Path]:
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{folder / INDEX} has no weight_map.", AGAIN)
    return {name: _shard_path(folder, shard) for name, shard in weight_map.items()}


def _shard_path(folder: Path, shard: Any) -> Path:
    if not isinstance(shard, str) or Path(shard).name != shard or "\\" in shard or not shard.endswith(SUFFIX):
        raise CheckpointError(
            f"{folder / INDEX} points to {shard!r}, which is no {SUFFIX} file of this folder.",
            "Do not trust this checkpoint; get the model from its original source.",
        )
    if not (folder / shard).is_file():
        raise CheckpointError(f"The shard {shard} of {folder} is missing.", "Download it and put it there.")
    return folder / shard


def _no_weights(folder: Path, found: list[Path]) -> CheckpointError:
    if found:
        return CheckpointError(f"{folder} has {len(found)} {SUFFIX} files but no {INDEX}.", "Download the index too.")
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        return pickle_refused(folder / pickles[0])
    return CheckpointError(
        f"{folder} holds no weights ({SINGLE} or {INDEX}).",
        "Give the folder that holds config.json and the .safetensors files, or a .gguf file.",
    )


def open_shard(file: Path) -> Any:
    """The library's reader of one file, checked. Raises CheckpointError."""
    try:
        check_header(file)
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise _corrupt(file, str(error)) from error


def _corrupt(file: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{file} is truncated or damaged: {reason}.", AGAIN)
