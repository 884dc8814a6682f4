"""Which source a model name means: built-in name, folder, GGUF file, or hub id, tried in this order.

Each source is imported when it is needed, so that listing the built-in models does not load torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mobilequant.errors import CheckpointError, did_you_mean
from mobilequant.models.sources.builtin import builtins, open_builtin
from mobilequant.models.sources.hub import fetch_hub, is_hub_id
from mobilequant.models.sources.pickle_file import PICKLES, pickle_refused
from mobilequant.pipeline.progress import Track, silent

if TYPE_CHECKING:
    from mobilequant.models.model import Model


def resolve(name: str, *, track: Track = silent) -> Model:
    """The model that a name means, loaded in float32.

    ``name``: a built-in name ("smollm2-135m"), a Hugging Face folder, a .gguf file, or a hub id ("org/model").
    Raises CheckpointError when there is no such model or it is damaged, DataError when a package cannot be had,
    ResourceError when the disk is too small.
    """
    from mobilequant.models.sources.folder import load_folder

    return load_folder(resolve_folder(name, track=track), source=name)


def resolve_folder(name: str, *, track: Track = silent) -> Path:
    """The Hugging Face folder that a name means, made if needed; raises as ``resolve`` does."""
    path = Path(name)
    named = {builtin.name: builtin for builtin in builtins()}
    if name in named:
        return open_builtin(named[name], track=track)
    if path.is_dir():
        return path
    if path.is_file():
        return _open_file(path)
    if is_hub_id(name):
        return fetch_hub(name)
    raise _unknown(name, tuple(named))


def _open_file(path: Path) -> Path:
    from mobilequant.models.sources.gguf_file import open_gguf

    if path.suffix in PICKLES:
        raise pickle_refused(path)
    if path.suffix != ".gguf":
        raise CheckpointError(f"{path} is no .gguf file.", "Give a .gguf file, or the folder that holds config.json.")
    return open_gguf(path)


def _unknown(name: str, names: tuple[str, ...]) -> CheckpointError:
    return CheckpointError(
        f"There is no model {name!r}: no built-in name, folder, .gguf file or hub id.",
        f"{did_you_mean(name.lower(), names)}Built-in: {', '.join(names)}. "
        "docs/guide/models-and-data.md says how to use others.",
    )
