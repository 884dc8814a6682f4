"""How fast the engine runs a package, and how much memory it takes. Loads nothing heavy: peak memory is measured."""

from __future__ import annotations

import math
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobilequant.engine.engine import Engine, Session
from mobilequant.engine.listing import MANIFEST, package_bytes
from mobilequant.errors import UsageError
from mobilequant.models.json_file import read_json

_WARM_UP_DECODES = 4
_STATUS = Path("/proc/self/status")
_MATRICES = ("linear", "embedding")
_CODES = ("codes", "position_codes")


@dataclass(frozen=True)
class Load:
    """What is computed: ``prompt`` tokens at once, then ``decode`` tokens one by one behind ``context`` others."""

    prompt: int
    decode: int
    context: int | None  # None: behind the prompt


def bench(
    package: str | Path,
    *,
    prompt: int = 512,
    decode: int = 128,
    context: int | None = None,
    threads: int | None = None,
    kernels: str | None = None,
    repeat: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """Time a package on random tokens, after one run that does not count.

    Args:
        prompt: tokens that are read at once; only the logits of the last one are computed.
        decode: tokens that are read one by one, each with its logits; choosing among them is not timed.
        context: tokens that stand before those; by default the prompt.
        repeat: how often; speeds are medians.

    Returns:
        ``prefill_tok_s``, ``decode_tok_s``, ``peak_memory_bytes`` of this process, ``load_ms``, every run's times, and
        what was run: package, kernels, threads and sizes.

    Raises:
        PackageError: the package is missing or damaged.
        UsageError: a size or option that cannot be meant, or more tokens than the context holds.
    """
    for name, value in {"prompt": prompt, "decode": decode, "repeat": repeat}.items():
        if value < 1:
            raise UsageError(f"{name} is {value}", f"Use --{name} of 1 or more.")
    if context is not None and context < 0:
        raise UsageError(f"context is {context}", "Use --context of 0 or more.")
    start = time.perf_counter()
    engine = Engine.load(package, threads=threads, kernels=kernels)
    load_ms = _milliseconds(start)
    load = Load(prompt, decode, context)
    tokens = _tokens(engine, load, seed)
    _run(engine, Load(prompt, min(decode, _WARM_UP_DECODES), context), tokens)
    runs = [_run(engine, load, tokens) for _ in range(repeat)]
    return {
        "prefill_tok_s": prompt / statistics.median(run["prefill_ms"] for run in runs) * 1000,
        "decode_tok_s": decode / statistics.median(run["decode_ms"] for run in runs) * 1000,
        "peak_memory_bytes": peak_memory_bytes(),
        "load_ms": load_ms,
        "kernels": engine.kernels,
        "threads": engine.threads,
        "prompt": prompt,
        "decode": decode,
        "context": prompt if context is None else context,
        "repeat": repeat,
        "seed": seed,
        "runs": runs,
        **_about(engine.folder),
    }


def _tokens(engine: Engine, load: Load, seed: int) -> NDArray[np.int64]:
    """As many random tokens as the longest sequence has."""
    count = max(load.prompt, (load.prompt if load.context is None else load.context) + load.decode)
    room = engine.context - len(engine.prefix_tokens)
    if count > room:
        raise UsageError(
            f"{count} tokens do not fit into the context of {room}", "Lower --prompt, --decode or --context."
        )
    return np.random.default_rng(seed).integers(0, engine.vocab_size, count)


def _run(engine: Engine, load: Load, tokens: NDArray[np.int64]) -> dict[str, float]:
    session = engine.session(len(tokens))
    start = time.perf_counter()
    session.run(tokens[: load.prompt], only_last=True)
    prefill_ms = _milliseconds(start)
    if load.context is not None:
        session = _filled(engine, tokens[: load.context], len(tokens))
    first = load.prompt if load.context is None else load.context
    start = time.perf_counter()
    for position in range(first, first + load.decode):
        session.run(tokens[position : position + 1], only_last=True)
    return {"prefill_ms": prefill_ms, "decode_ms": _milliseconds(start)}


def _filled(engine: Engine, tokens: NDArray[np.int64], capacity: int) -> Session:
    session = engine.session(capacity)
    if tokens.size:
        session.run(tokens, only_last=True)
    return session


def _milliseconds(start: float) -> float:
    return (time.perf_counter() - start) * 1000


def peak_memory_bytes() -> int:
    """The largest resident size of this process so far.

    Linux tells it in /proc; what ``getrusage`` gives there also counts the process that started this one.
    """
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _about(folder: Path) -> dict[str, Any]:
    """Facts from the files of a package that the engine has checked; read behind the measurement, which they must not
    disturb."""
    return {
        "package": folder.name,
        "package_bytes": package_bytes(folder),
        "scheme": read_json(folder / MANIFEST).get("scheme"),
        "bits_per_weight": bits_per_weight(read_json(folder / "graph.json")),
    }


def bits_per_weight(graph: dict[str, Any]) -> float:
    """What ``jobs.measure`` computes from a loaded graph, here from ``graph.json`` alone, without torch."""
    constants = graph["constants"]
    ops = [op["constants"] for op in graph["ops"] if op["kind"] in _MATRICES]
    elements = {name: math.prod(entry["shape"]) for name, entry in constants.items()}
    stored = {name for op in ops for name in op.values()}
    codes = {op[key] for op in ops for key in _CODES if key in op}
    bits = sum(elements[name] * int(constants[name]["dtype"].lstrip("uint")) for name in stored)
    return bits / sum(elements[name] for name in codes)
