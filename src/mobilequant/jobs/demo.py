"""The whole way on one real model: quantize in two schemes, score side by side, write text, make the report.

OUT/demo.json                 what this folder is
OUT/<preset>/                 the packages
OUT/<preset>.eval.json        their scores
OUT/work/<preset>/            finished units, removed when all is done
OUT/report.html               everything on one page
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mobilequant.data.text import load_text
from mobilequant.data.window import after_prefix, windows
from mobilequant.errors import UsageError
from mobilequant.evaluate.protocol import Protocol, window_count
from mobilequant.integer.package import MANIFEST
from mobilequant.jobs.baseline import score_rounding
from mobilequant.jobs.device import require_device, require_device_memory
from mobilequant.jobs.evaluate import DEFAULT_TEXT, evaluate
from mobilequant.jobs.generate import generate
from mobilequant.jobs.measure import scheme_info
from mobilequant.jobs.plan import evaluate_memory_bytes, evaluate_time_s, measured_flops_per_s, plan_quantize
from mobilequant.jobs.quantize import Job, Outcome, prepare
from mobilequant.jobs.report import (
    baseline_lines,
    model_info,
    range_series,
    score_lines,
    sqnr_table,
    token_series,
    worst_layer,
)
from mobilequant.models.model import Model
from mobilequant.models.sources.resolver import resolve
from mobilequant.models.tokenizer import Tokenizer
from mobilequant.pipeline.atomic_file import write_atomically
from mobilequant.pipeline.environment import Environment
from mobilequant.pipeline.output_folder import require_free
from mobilequant.pipeline.progress import Track, silent
from mobilequant.pipeline.recipe import load_recipe
from mobilequant.pipeline.resource import Plan, require
from mobilequant.report.html import write_report
from mobilequant.report.schema import RangeSeries, Result, Sample, SchemeInfo, SqnrTable, Step, TokenSeries

PRESETS = ("w8a8-fast", "w4a8-fast")
DEFAULT_MODEL = "smollm2-135m"
PROMPT = "The three most important inventions of the nineteenth century were"
_MARKER = "demo.json"
_SCORED_TOKENS, _WINDOW, _NEW_TOKENS = 2044, 512, 32
_PICTURE_WINDOWS, _PICTURE_TOKENS = 2, 256  # what ranges and noise are drawn from


@dataclass
class Findings:
    """What the report is made of, gathered as the run goes on."""

    schemes: list[SchemeInfo] = field(default_factory=list)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    baseline: dict[str, dict[str, Any]] = field(default_factory=dict)
    ranges: list[RangeSeries] = field(default_factory=list)
    tokens: list[TokenSeries] = field(default_factory=list)
    sqnr: list[SqnrTable] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how long a step took and how much memory the process has needed so far."""
        start = time.monotonic()
        yield
        self.steps.append(Step(name=name, seconds=time.monotonic() - start, peak_memory_bytes=_peak_memory_bytes()))


@dataclass(frozen=True)
class Demo:
    """A demo that has been checked and may start."""

    out: Path
    name: str
    model: Model
    plan: Plan
    device: str
    begins_again: bool

    def run(self, track: Track = silent) -> Findings:
        """Do everything; what an earlier, interrupted run has finished is not done again."""
        if self.begins_again:
            shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True, exist_ok=True)
        write_atomically(self.out / _MARKER, json.dumps({"model": self.name, "presets": PRESETS}).encode())
        findings, job = Findings(), None
        for preset in PRESETS:
            job = self._package(preset, job, findings, track)
            with findings.timed(f"evaluate {preset}"):
                findings.evaluations[preset] = self._evaluate(preset, track)
            with findings.timed(f"generate with {preset}"):
                findings.samples.append(self._sample(preset))
        with findings.timed("score rounding to nearest"):
            assert job is not None, "there is at least one preset"
            findings.baseline = self._baseline(job.windows, track)
        write_report(self.report, self._result(findings))
        shutil.rmtree(self.out / "work")
        return findings

    @property
    def report(self) -> Path:
        """Where the report lies."""
        return self.out / "report.html"

    def _package(self, preset: str, earlier: Job | None, findings: Findings, track: Track) -> Job:
        """Make one package, from where ``earlier`` differs, and look into it while the float model is at hand."""
        with findings.timed(f"quantize {preset}"):
            job = prepare(
                self.name,
                load_recipe(preset),
                out=self.out / preset,
                work_dir=self.out / "work" / preset,
                force=True,
                device=self.device,
                loaded=self.model,
                track=track,
            )
            outcome = job.run(resume=True, force=True, after=earlier, track=track)
        with findings.timed(f"look into {preset}"):
            self._look(preset, outcome, findings)
        return job

    def _look(self, preset: str, outcome: Outcome, findings: Findings) -> None:
        quantized = outcome.quantized
        findings.schemes.append(scheme_info(outcome.graph, quantized.scheme.name, preset))
        shown = outcome.windows[:_PICTURE_WINDOWS, :_PICTURE_TOKENS]
        tokens = quantized.prefix.tokens if quantized.prefix else ()
        behind = after_prefix(shown, tokens, self.model.arch.leading_token)
        if not findings.ranges:
            before = range_series("as loaded", self.model, shown, None, {})
            after = range_series(
                "with prefix and smoothing", quantized.model, behind, quantized.prefix, quantized.activations
            )
            layer = worst_layer(before)
            findings.ranges += [before, after]
            findings.tokens.append(token_series("as loaded", self.model, shown, layer, None))
            findings.tokens.append(
                token_series("with prefix and smoothing", quantized.model, behind, layer, quantized.prefix)
            )
        findings.sqnr.append(sqnr_table(quantized.scheme.name, quantized, behind))

    def _evaluate(self, preset: str, track: Track) -> dict[str, Any]:
        package, path = self.out / preset, self.out / f"{preset}.eval.json"
        package_sha256 = hashlib.sha256((package / MANIFEST).read_bytes()).hexdigest()
        if path.exists():
            saved: dict[str, Any] = json.loads(path.read_text())
            if saved["hashes"].get("package") == package_sha256:
                return saved
        result = evaluate(package, window=_WINDOW, tokens=_SCORED_TOKENS, device=self.device, track=track)
        result["hashes"]["package"] = package_sha256
        write_atomically(path, json.dumps(result, indent=1).encode())
        return result

    def _baseline(self, calibration: Tensor, track: Track) -> dict[str, dict[str, Any]]:
        """What rounding to nearest alone gives in both schemes, on the tokens on which the packages are scored."""
        assert self.model.tokenizer_dir is not None, "prepare has tokenized with it"
        ids = Tokenizer.load(self.model.tokenizer_dir).encode(load_text(DEFAULT_TEXT).content)
        scoring = windows(ids, window=_WINDOW, count=window_count(_SCORED_TOKENS, _WINDOW), seed=None).to(self.device)
        schemes = [load_recipe(preset).base_scheme() for preset in PRESETS]
        model = self.model.to(device=self.device)
        return score_rounding(model, schemes, calibration.to(self.device), scoring, model.arch.leading_token, track)

    def _sample(self, preset: str) -> Sample:
        pieces = generate(self.out / preset, PROMPT, max_new_tokens=_NEW_TOKENS, greedy=True, device=self.device)
        return Sample(label=f"{preset}, integer", prompt=PROMPT, text="".join(pieces))

    def _result(self, findings: Findings) -> Result:
        first = next(iter(findings.evaluations.values()))
        return Result(
            title=f"{self.name}, integers only",
            model=model_info(self.name, self.model.arch, sum(t.numel() for t in _distinct(self.model))),
            schemes=tuple(findings.schemes),
            scores=(*score_lines(findings.evaluations), *baseline_lines(findings.baseline)),
            protocol=Protocol(**first["protocol"]),
            ranges=tuple(findings.ranges),
            token_outliers=tuple(findings.tokens),
            sqnr=tuple(findings.sqnr),
            samples=tuple(findings.samples),
            steps=tuple(findings.steps),
            settings={"presets": list(PRESETS), "scored_tokens": _SCORED_TOKENS, "window": _WINDOW},
            hashes=first["hashes"],
            environment=Environment(**first["environment"]),
        )


def prepare_demo(
    out: str | Path,
    *,
    model: str = DEFAULT_MODEL,
    resume: bool = False,
    force: bool = False,
    device: str = "cpu",
    track: Track = silent,
) -> Demo:
    """Check the request and load the model.

    Raises:
        MobileQuantError: anything that would stop the run later.
    """
    out = Path(out)
    require_free(out, force=force or resume, marker=_MARKER)
    if not (resume or force) and (out / "work").exists():
        raise UsageError(f"{out} holds an unfinished demo", "Continue it with --resume, or start again with --force.")
    require_device(device)
    loaded = resolve(model, track=track)
    speed = measured_flops_per_s(device)
    plans = [plan_quantize(loaded.arch, load_recipe(preset), speed, device) for preset in PRESETS]
    scoring_s = evaluate_time_s(loaded.arch, _SCORED_TOKENS, speed)
    scoring_bytes = max(evaluate_memory_bytes(loaded.arch, load_recipe(preset), _WINDOW) for preset in PRESETS)
    scoring_bytes += sum(t.nbytes for t in _distinct(loaded))
    plan = Plan(
        time_s=sum(part.time_s for part in plans) + len(PRESETS) * scoring_s,
        memory_bytes=max(scoring_bytes, *(part.memory_bytes for part in plans)),
        work_bytes=sum(part.work_bytes for part in plans),
        package_bytes=sum(part.package_bytes for part in plans),
        device_bytes=max(part.device_bytes for part in plans),
    )
    require_device_memory(plan.device_bytes, device)
    require(plan, out=out, work_dir=out)
    return Demo(out, model, loaded, plan, device, begins_again=force and not resume)


def _distinct(model: Model) -> list[Any]:
    """The tensors of a model, a tied head once."""
    return list({id(tensor): tensor for tensor in model.tensors.values()}.values())


def _peak_memory_bytes() -> int:
    """The largest resident size of this process so far (the system counts in kB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
