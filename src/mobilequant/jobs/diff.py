"""Where two executors part: the first tensor of a graph in which they differ, on the same tokens.

A dump is an .npz file with the codes of every tensor, in running order, and the token ids as ``tokens``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobilequant.engine.failure import DAMAGED
from mobilequant.engine.generation import RunningModel
from mobilequant.errors import CheckpointError, PackageError, ResourceError, UsageError
from mobilequant.jobs.running import choose_executor
from mobilequant.models.json_file import read_json

DEFAULT_TEXT = "The capital of France is Paris. The capital of Italy is"
DUMP = ".npz"
_TOKENS = "tokens"  # the input of every graph, so no tensor has this name
_GRAPH = "graph.json"

Codes = NDArray[np.integer]


@dataclass(frozen=True)
class Trace:
    """Token ids (T,), and the codes of tensors by name in running order."""

    tokens: list[int]
    tensors: Mapping[str, Codes]


@dataclass(frozen=True)
class Difference:
    """The first tensor that differs: its shapes, how many of its codes differ, and the first index with both codes.

    Where the shapes differ, codes cannot be compared and the last three are None.
    """

    tensor: str
    kind: str | None
    left_shape: tuple[int, ...]
    right_shape: tuple[int, ...]
    codes: int
    different: int | None
    index: tuple[int, ...] | None
    values: tuple[int, int] | None


def diff(
    package: str | Path,
    *,
    left: str = "engine",
    right: str = "reference",
    text: str | None = None,
    tokens: Sequence[int] | None = None,
    save: str | Path | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Run a package on both sides and compare tensor after tensor.

    Args:
        left, right: "engine", "engine:" and a name of kernels, "reference", or an .npz file that ``save`` wrote.
        text: what is run; by default a short sentence, or the tokens of a dump. Or ``tokens``, as ids.
        save: where the tensors of the left side are kept, as an .npz file.

    Returns:
        ``difference``, None where all is equal, else the first tensor that differs with ``kind`` of operation,
        ``different`` codes of ``codes``, ``index`` and both ``values``; ``compared``, the number of tensors; and
        ``only_left``, ``only_right``, names that the other side does not show.

    Raises:
        PackageError: the package is missing or damaged.
        UsageError: an unknown executor, a file that is no dump or holds other tokens, or nothing to compare.
        ResourceError: the dump cannot be written.
    """
    sides = [_open(name, package, threads) for name in (left, right)]
    ids = _common_tokens(sides, text, tokens)
    one, other = (side if isinstance(side, Trace) else _run(side, ids) for side in sides)
    if save is not None:
        write_dump(Path(save), one)
    common = [name for name in one.tensors if name in other.tensors]
    if not common:
        raise UsageError(f"{left} and {right} have no tensor in common", "Compare runs of the same package.")
    found = first_difference(one, other, _kinds(Path(package)))
    return {
        "left": left,
        "right": right,
        "tokens": len(ids),
        "compared": len(common),
        "only_left": [name for name in one.tensors if name not in other.tensors],
        "only_right": [name for name in other.tensors if name not in one.tensors],
        "difference": asdict(found) if found else None,
    }


def first_difference(left: Trace, right: Trace, kinds: Mapping[str, str]) -> Difference | None:
    """The first tensor of the left side, in running order, that the right side has with other codes."""
    for name, one in left.tensors.items():
        other = right.tensors.get(name)
        if other is not None and (found := _compare(name, kinds.get(name), one, other)):
            return found
    return None


def _compare(name: str, kind: str | None, one: Codes, other: Codes) -> Difference | None:
    if one.shape != other.shape:
        return Difference(name, kind, one.shape, other.shape, one.size, None, None, None)
    unequal = one != other
    if not unequal.any():
        return None
    index = tuple(int(each[0]) for each in np.nonzero(unequal))
    values = (int(one[index]), int(other[index]))
    return Difference(name, kind, one.shape, other.shape, one.size, int(unequal.sum()), index, values)


def read_dump(path: Path) -> Trace:
    """What ``write_dump`` wrote.

    Raises:
        UsageError: it cannot be read, or is no dump.
    """
    remedy = "Make one with `mobilequant diff DIR --save FILE`."
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except (OSError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} cannot be read as a dump: {error}", remedy) from error
    ids = arrays.pop(_TOKENS, np.zeros(0))
    if ids.ndim != 1 or any(array.dtype.kind not in "iu" for array in (ids, *arrays.values())):
        raise UsageError(f"{path} is no dump: it needs token ids and integer tensors", remedy)
    return Trace([int(each) for each in ids], arrays)


def write_dump(path: Path, trace: Trace) -> None:
    """Keep a trace as an .npz file.

    Raises:
        ResourceError: it cannot be written.
    """
    try:
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_TOKENS: np.array(trace.tokens, np.int32), **trace.tensors})
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}", "Choose another place for --save.") from error


def _open(name: str, package: str | Path, threads: int | None) -> RunningModel | Trace:
    return (
        read_dump(Path(name))
        if name.endswith(DUMP)
        else choose_executor(name).load(package, threads=threads, traced=True)
    )


def _run(model: RunningModel, ids: Sequence[int]) -> Trace:
    return Trace(list(ids), dict(model.session(len(ids)).trace(ids)))


def _common_tokens(sides: Sequence[RunningModel | Trace], text: str | None, tokens: Sequence[int] | None) -> list[int]:
    """The token ids that both sides are about; a dump brings its own."""
    if text is not None and tokens is not None:
        raise UsageError("both a text and token ids are given", "Give one of them.")
    dumped = [side.tokens for side in sides if isinstance(side, Trace)]
    model = next((side for side in sides if not isinstance(side, Trace)), None)
    if model is None and text is not None:
        raise UsageError("two dumps are compared, and neither knows a tokenizer", "Leave --text out.")
    given = list(tokens) if tokens is not None else None
    if model is not None and given is None and (text is not None or not dumped):
        given = model.vocabulary.encode(text or DEFAULT_TEXT)
    ids = given if given is not None else dumped[0]
    if any(own != ids for own in dumped):
        raise UsageError("a dump was made from other tokens", "Leave --text and --tokens out, or make a new dump.")
    if not ids:
        raise UsageError("there is no token to run", "Give some with --text or --tokens.")
    return ids


def _kinds(package: Path) -> dict[str, str]:
    """Tensor → kind of the operation that computes it."""
    try:
        return {op["output"]: op["kind"] for op in read_json(package / _GRAPH)["ops"]}
    except (CheckpointError, KeyError, TypeError) as error:
        raise PackageError(f"{package / _GRAPH} cannot be read: {error}", DAMAGED) from error
