"""What each idea is worth: every rung of a ladder quantized and scored, on the same tokens, resumable rung by rung.

WORK/w4a8/03-prefix/           the package of a rung
WORK/w4a8/03-prefix.json       its scores: a rung that has them is not done again
WORK/w4a8/03-prefix.work/      its finished units, for rungs that begin like it
WORK/w4a8/03-prefix.claim/     while a process is at it: several may work in one folder, on one GPU or on many
WORK/notes/settings.json       what all of these were made with
WORK/ablation.json, .svg       all of it, when it is done
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from mobilequant.data.text import load_text
from mobilequant.data.window import windows
from mobilequant.errors import ResourceError, UsageError
from mobilequant.evaluate.batch import tokens_at_once
from mobilequant.evaluate.protocol import window_count
from mobilequant.evaluate.score import score
from mobilequant.jobs.evaluate import evaluate, float_model
from mobilequant.jobs.executor import dynamic_executor, float_executor
from mobilequant.jobs.inspect import inspect
from mobilequant.jobs.ladder import Rung, ladder
from mobilequant.jobs.package import open_package
from mobilequant.jobs.quantize import Job, prepare
from mobilequant.jobs.shared_work import nearest
from mobilequant.jobs.simulation import load_simulation
from mobilequant.methods.registry import make_all
from mobilequant.models.tokenizer import Tokenizer
from mobilequant.pipeline.atomic_file import write_atomically
from mobilequant.pipeline.lock import claimed
from mobilequant.pipeline.progress import Track, silent
from mobilequant.pipeline.recipe import CalibrationData
from mobilequant.pipeline.workspace import Workspace
from mobilequant.report.plot.ladder import ladder_plot

DYNAMIC = "dynamic per token"
_PAUSE_S = 1.0


def ablate(
    model: str | Path,
    *,
    work: str | Path,
    widths: Sequence[str] = ("w8a8", "w4a8"),
    data: CalibrationData,
    training: CalibrationData | None = None,
    text: str = "wiki_squad",
    window: int = 512,
    tokens: int = 20_440,
    seed: int = 0,
    device: str = "cpu",
    track: Track = silent,
) -> dict[str, Any]:
    """Scores of every rung in every width: {"settings", "widths": {width: [{name, ppl, …}]}}.

    The last entry of a width is no integer model: the weights of the last rung with activations that are rounded for
    each token anew, which is what static ranges could reach at most. Processes that are given the same folder share
    the rungs, and each returns when all are done.

    Raises:
        UsageError: the folder holds results that were made with other settings.
        MobileQuantError: as ``quantize`` and ``evaluate``.
    """
    folder = Path(work)
    scoring = {"text": text, "window": window, "tokens": tokens, "device": device}
    trained = training.model_dump() if training else None
    settings = {"model": str(model), **scoring, "seed": seed, "data": data.model_dump(), "training": trained}
    _require_same(folder, {key: each for key, each in settings.items() if key != "device"})
    tasks: dict[str, list[_Task]] = {}
    steps: list[_Step] = []
    for width in widths:
        tasks[width] = []
        for number, rung in enumerate(ladder(width, data, training, seed)):
            step = _Step(rung, _place(folder / width, number, rung))
            tasks[width].append(_Task(step.place, partial(_made, model, step, tuple(steps), scoring, track)))
            steps.append(step)
        last = steps[-1].place
        tasks[width].append(_Task(folder / width / "dynamic", partial(_bound, last, scoring, track), last))
    _make_all([task for each in tasks.values() for task in each])
    rows = {width: [json.loads(task.result.read_text()) for task in each] for width, each in tasks.items()}
    found = {"model": settings.pop("model"), "settings": settings, "widths": rows}
    _write(folder / "ablation.json", json.dumps(found, indent=1))
    _write(folder / "ablation.svg", ladder_plot(rows))
    return found


def _require_same(folder: Path, settings: Mapping[str, Any]) -> None:
    """Remember what the results of a folder were made with.

    Raises:
        UsageError: they were made with something else.
    """
    workspace = Workspace(folder)
    known = workspace.note("settings")
    if known is None:
        workspace.keep_note("settings", dict(settings))
        return
    different = [key for key in settings if known.get(key) != settings[key]]
    if different:
        raise UsageError(
            f"{folder} holds a ladder with another {different[0]}: {known.get(different[0])!r}",
            "Choose another --work folder, or the same settings as before.",
        )


@dataclass(frozen=True)
class _Task:
    """``make`` gives what belongs in the file beside ``place``, once the package ``behind`` is there."""

    place: Path
    make: Callable[[], dict[str, Any]]
    behind: Path | None = None

    @property
    def result(self) -> Path:
        return _result(self.place)

    def tried(self) -> bool:
        """Do it, unless another process is at it or at what it needs; whether it is done."""
        if self.behind is not None and not _result(self.behind).exists():
            return False
        with claimed(self.place.with_suffix(".claim")) as mine:
            if mine and not self.result.exists():
                _write(self.result, json.dumps(self.make(), indent=1))
            return mine


def _make_all(tasks: Sequence[_Task]) -> None:
    """In order, as far as other processes leave them to this one; then wait for those."""
    while missing := [task for task in tasks if not task.result.exists()]:
        if not any(task.tried() for task in missing):
            time.sleep(_PAUSE_S)


def _place(folder: Path, number: int, rung: Rung) -> Path:
    words = re.findall(r"[a-z0-9]+", rung.name.lower())
    return folder / "-".join([f"{number:02}", *words])


def _result(place: Path) -> Path:
    """Where the scores of a package lie; it is done when they do."""
    return place.with_suffix(".json")


@dataclass(frozen=True)
class _Step:
    """A rung, and the folder of its package."""

    rung: Rung
    place: Path

    @property
    def work_dir(self) -> Path:
        return self.place.with_suffix(".work")

    @property
    def is_done(self) -> bool:
        return _result(self.place).exists()


def _made(
    model: str | Path, step: _Step, before: Sequence[_Step], scoring: dict[str, Any], track: Track
) -> dict[str, Any]:
    """The package of one rung, and its scores; what it has in common with one ``before`` it is taken from there."""
    place, device = step.place, scoring["device"]
    job = prepare(model, step.rung.recipe, out=place, work_dir=step.work_dir, force=True, device=device, track=track)
    finished = [_finished(job, each) for each in before if each.is_done]
    job.run(resume=True, force=True, after=nearest(finished, job), track=track)
    scores, about = evaluate(place, **scoring, track=track), inspect(place)
    return {
        "name": step.rung.name,
        "float_ppl": scores["float"]["ppl"],
        **{key: scores["integer"][key] for key in ("ppl", "ppl_ratio", "kl", "top1")},
        "fake_quant_ppl": scores["fake_quant"]["ppl"],
        "bits_per_weight": about["bits_per_weight"],
        "float_ops": about["float_ops"],
        "protocol": scores["protocol"],
        "hashes": scores["hashes"],
        "environment": scores["environment"],
    }


def _finished(job: Job, step: _Step) -> Job:
    """The job of a rung that is done, on the model and the windows of this one."""
    recipe = step.rung.recipe
    return replace(job, recipe=recipe, methods=make_all(recipe), out=step.place, work_dir=step.work_dir)


def _bound(place: Path, scoring: dict[str, Any], track: Track) -> dict[str, Any]:
    """The weights of a rung with dynamic per-token activations."""
    opened = open_package(place)
    source = float_model(opened, None, track).to(device=scoring["device"])
    quantized, bos = load_simulation(place, opened.graph, source), opened.about.leading_token
    cut = _scored(place, opened.graph.vocab_size, scoring).to(scoring["device"])
    executors = {"float": float_executor(source, None, bos), DYNAMIC: dynamic_executor(quantized, bos)}
    batch_tokens = tokens_at_once(scoring["device"], opened.graph.vocab_size)
    scores = score(executors, cut, bos=bos, batch_tokens=batch_tokens, track=track)
    kept = {key: scores[DYNAMIC][key] for key in ("ppl", "ppl_ratio", "kl", "top1")}
    return {"name": DYNAMIC, "float_ppl": scores["float"]["ppl"], **kept}


def _scored(place: Path, vocab_size: int, scoring: dict[str, Any]) -> Tensor:
    ids = Tokenizer.load(place, num_rows=vocab_size).encode(load_text(scoring["text"]).content)
    count = window_count(scoring["tokens"], scoring["window"])
    return windows(ids, window=scoring["window"], count=count, seed=None)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}", "Choose another --work folder.") from error
