"""Make one row: quantize, score, and keep each part as soon as it is there, so that a killed row goes on from it.

Package and texts are scored by the code of the command line. Zero-shot tasks are answered by the integer and the float
model only, and by the float model once for all its packages: two thirds of their time saved on a CPU. Its logits on the
texts are made again for each package, since KL and top-1 need all of them and they are too many to keep.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from accuracy.row import Row, Scoring, model_folder
from mobilequant.data.task import Request, load_task
from mobilequant.evaluate.score import REFERENCE
from mobilequant.evaluate.task import Outcome
from mobilequant.jobs.comparison import Comparison, compare
from mobilequant.jobs.evaluate import evaluate, float_model
from mobilequant.jobs.inspect import inspect
from mobilequant.jobs.package import open_package
from mobilequant.jobs.quantize import Job, prepare
from mobilequant.jobs.zero_shot import answered, compared
from mobilequant.pipeline.atomic_file import write_text
from phases import Phases

MODELS = ("float", "float_prefix", "fake_quant", "integer")
_DOWN_INPUTS = (".product", ".act")
_DIGITS = 12


def make(row: Row, scoring: Scoring, work: Path, device: str, begins_as: Row | None = None) -> dict[str, Any]:
    """The row, written to its place; and in front of it the one that it extends, so that no step is done twice."""
    before = _Making(begins_as, scoring, work, device) if begins_as else None
    if before:
        before.written()
    making = _Making(row, scoring, work, device, before)
    made = making.written()
    for each in (before, making):
        if each:
            shutil.rmtree(each.unfinished, ignore_errors=True)
    return made


@dataclass
class _Making:
    row: Row
    scoring: Scoring
    work: Path
    device: str
    before: _Making | None = None

    def __post_init__(self) -> None:
        self.folder = self.row.folder(self.work)
        self.package, self.unfinished = self.folder / "package", self.folder / "package.work"
        self.track = Phases(self.device, "check and plan")
        self.seconds: dict[str, float] = {}

    def written(self) -> dict[str, Any]:
        made = self.row.found(self.work, self.scoring) or self.scored()
        write_text(self.row.result(self.work, self.scoring), json.dumps(made, indent=1) + "\n")
        return made

    @cached_property
    def job(self) -> Job:
        return prepare(
            self.row.model,
            self.row.recipe,
            out=self.package,
            work_dir=self.unfinished,
            force=True,
            device=self.device,
            track=self.track,
        )

    def scored(self) -> dict[str, Any]:
        made = self._part("package", self.packaged)
        first, *others = [self._part(*self.text(name)) for name in self.scoring.texts]
        tasks = self._part(f"tasks-{self.scoring.digits}", self.tasks) if self.scoring.tasks else {}
        self.track.end()
        return {
            **first,
            "tasks": tasks,
            "other_texts": {each["settings"]["text"]: _scores(each) for each in others},
            "package": made["about"],
            "run": {**made["run"], "device_peak_bytes": self.track.device_peak_bytes or None, "seconds": self.seconds},
        }

    def packaged(self) -> dict[str, Any]:
        resumed = self.unfinished.exists()
        after = self.before.job if self.before else None
        self.job.run(resume=True, force=True, after=after, track=self.track)
        about = inspect(self.package)
        kept = {key: about[key] for key in ("bits_per_weight", "float_ops", "prefix_tokens")}
        wide = [point for point in about["sixteen_bit_inputs"] if point.endswith(_DOWN_INPUTS)]
        run = {"device": self.device, "resumed": resumed}
        if self.before:
            run["begun_by"] = self.before.row.title  # its seconds are not among those of this row
        return {"about": {**kept, "sixteen_bit_down_inputs": len(wide)}, "run": run}

    def text(self, name: str) -> tuple[str, Callable[[], dict[str, Any]]]:
        sizes = {"window": self.scoring.window, "tokens": self.scoring.tokens}
        part = "-".join([Path(name).stem, *map(str, sizes.values())])
        return part, lambda: evaluate(self.package, text=name, **sizes, device=self.device, track=self.track)

    def tasks(self) -> dict[str, Any]:
        """By task and model, as ``evaluate`` tells them."""
        outcomes = {}
        for task in self.scoring.tasks:
            requests = load_task(task)
            outcomes[task] = {
                REFERENCE: self.outcome(self.float_folder, REFERENCE, task, requests),
                "integer": self.outcome(self.folder, "integer", task, requests),
            }
        return compared(outcomes)

    def outcome(self, folder: Path, model: str, task: str, requests: list[Request]) -> Outcome:
        documents = self.scoring.documents

        def answers() -> dict[str, Any]:
            models = self.comparison
            return asdict(answered(models, model, task, requests, documents=documents, track=self.track))

        found = _kept(folder / f"{model}-{task}-{documents}.json", answers)["found"]
        return Outcome(found["measures"], tuple(found["correct"]))

    @cached_property
    def comparison(self) -> Comparison:
        opened = open_package(self.package)
        return compare(opened, float_model(opened, None, self.track), self.device)

    @cached_property
    def float_folder(self) -> Path:
        """Rows that run at the same time may both answer here; they write the same."""
        model = open_package(self.package).about.model.sha256
        return model_folder(self.work, self.row.model) / f"float-{model[:_DIGITS]}"

    def _part(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        kept = _kept(self.folder / f"{name}.json", make)
        self.seconds[name] = kept["seconds"]
        return kept["found"]


def _kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a file holds, made where it is not there, with the seconds that it took."""
    if not path.exists():
        start = time.monotonic()
        found = make()
        write_text(path, json.dumps({"seconds": round(time.monotonic() - start, 1), "found": found}))
    return json.loads(path.read_text())


def _scores(evaluated: dict[str, Any]) -> dict[str, Any]:
    """Of a text behind the first: all else is the same."""
    return {key: evaluated[key] for key in (*MODELS, "protocol") if key in evaluated}
