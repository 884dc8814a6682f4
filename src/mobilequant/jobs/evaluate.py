"""Perplexity, KL and top-1 agreement of a package: float, fake-quant and integer side by side on the same tokens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mobilequant.data.task import load_task
from mobilequant.data.text import Text, load_text
from mobilequant.data.window import refuse_overlap, windows
from mobilequant.errors import CheckpointError, DataError, UsageError
from mobilequant.evaluate.protocol import Protocol, protocol, window_count
from mobilequant.evaluate.score import score
from mobilequant.jobs.comparison import compare
from mobilequant.jobs.device import require_device
from mobilequant.jobs.fingerprint import model_sha256, settings_sha256
from mobilequant.jobs.measure import bits_per_weight, bytes_by_role
from mobilequant.jobs.package import Package, open_package
from mobilequant.jobs.running import choose_executor
from mobilequant.jobs.zero_shot import zero_shot
from mobilequant.models.model import Model
from mobilequant.models.sources.resolver import resolve
from mobilequant.pipeline.environment import environment
from mobilequant.pipeline.progress import Track, silent

logger = logging.getLogger(__name__)

DEFAULT_TEXT, DEFAULT_WINDOW, DEFAULT_TOKENS = "wiki_squad", 512, 20_440
DEFAULT_DOCUMENTS = 100


def evaluate(
    package: str | Path,
    *,
    text: str | Path = DEFAULT_TEXT,
    window: int = DEFAULT_WINDOW,
    tokens: int = DEFAULT_TOKENS,
    tasks: Sequence[str] = (),
    documents: int = DEFAULT_DOCUMENTS,
    model: str | Path | None = None,
    device: str = "cpu",
    executor: str | None = None,
    track: Track = silent,
) -> dict[str, Any]:
    """Score a package on the first windows of a text, which do not overlap, and on zero-shot tasks.

    Args:
        package: the folder that ``quantize`` made.
        text: a built-in text, a .txt or .jsonl file, or hub:<data set>.
        tokens: how many predictions, ``window − 1`` in each window; rounded down to whole windows, at least one.
        tasks: names of zero-shot tasks (``data.task``); ``documents`` of each, from the first on.
        model: the float model, when it is no longer where the package remembers it.
        executor: who computes the integer model: "engine" (the default on a CPU) or "reference", with the same scores.

    Returns:
        The scores {"ppl", "kl", "top1", …} of "float", "float_prefix" (the control, where there is a prefix),
        "fake_quant" and "integer"; under "tasks", by task and model, accuracies and their average; and beside them
        how they were measured.

    Raises:
        PackageError, CheckpointError: the package or its float model is missing or damaged.
        DataError: the text is too short, or overlaps the calibration text.
        UsageError: a task, device or executor is unknown, or a window is longer than the package's context.
    """
    require_device(device)
    chosen = choose_executor(executor, device=device)
    opened = open_package(Path(package))
    _require_room(opened, window)
    count = window_count(tokens, window)
    scoring = load_text(str(text))
    refuse_calibration_text(opened, scoring)
    requests = {task: load_task(task) for task in tasks}
    models = compare(opened, float_model(opened, model, track), device, executor)
    cut = windows(models.encode(scoring.content), window=window, count=count, seed=None).to(device)
    scores = score(models.executors, cut, bos=models.bos, batch_tokens=models.batch_tokens, track=track)
    record = protocol(cut, bos=models.bos, text=scoring.name, text_sha256=scoring.sha256)
    settings = {"text": scoring.name, "window": window, "tokens": tokens, "tasks": list(tasks), "documents": documents}
    answers = zero_shot(models, requests, documents=documents, track=track)
    return {**scores, "tasks": answers, "executor": chosen.name, **_record(opened, settings, record)}


def _require_room(package: Package, window: int) -> None:
    """A window's last token is only predicted; BOS takes a place where the prefix does not hold it already."""
    graph, bos = package.graph, package.about.leading_token
    longest = graph.context - graph.num_prefix + (bos is None or graph.prefix_tokens[:1] == (bos,))
    if window > longest:
        raise UsageError(
            f"windows of {window} tokens do not fit into the context of {graph.context}",
            f"Use --window {longest} or less.",
        )


def _record(package: Package, settings: dict[str, Any], record: Protocol) -> dict[str, Any]:
    """What the scores were measured on and with; they never travel without it."""
    return {
        "schema_version": 1,
        "model": package.about.model.name,
        "scheme": package.about.scheme,
        "bits_per_weight": bits_per_weight(package.graph),
        "size_bytes": sum(bytes_by_role(package.graph).values()),
        "settings": settings,
        "config_hash": settings_sha256(settings),
        "hashes": {"model": package.about.model.sha256, "recipe": package.about.recipe_sha256},
        "environment": environment().model_dump(),
        "protocol": asdict(record),
    }


def float_model(package: Package, model: str | Path | None, track: Track) -> Model:
    """The float model that a package was made from, found again by name and recognised by its hash.

    Raises:
        CheckpointError: it is gone, or it is another model.
    """
    name = str(model) if model is not None else package.about.model.name
    loaded = resolve(name, track=track)
    if model_sha256(loaded) != package.about.model.sha256:
        raise CheckpointError(
            f"{name} is not the model that {package.folder} was made from: its weights differ",
            "Give the original with --model, or quantize again.",
        )
    return loaded


def refuse_calibration_text(package: Package, scoring: Text) -> None:
    """A score on text that ranges were taken from, or that was trained on, would be too good.

    Raises:
        DataError: the texts overlap.
    """
    for known in package.about.texts():
        _refuse(known.text, known.sha256, scoring)


def _refuse(name: str, sha256: str, scoring: Text) -> None:
    try:
        calibration = load_text(name)
    except DataError:
        calibration = None
    if calibration is not None and calibration.sha256 == sha256:
        refuse_overlap(calibration, scoring)
        return
    if scoring.sha256 == sha256:
        raise DataError(f"{scoring.name} is a text that the package was tuned on", "Score on another text.")
    logger.warning(
        "the text %s, on which the package was tuned, is gone or changed: overlap can only be checked as a whole", name
    )
