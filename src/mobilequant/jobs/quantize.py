"""From a model's name to a package on disk.

model ─▶ windows ─▶ prefix ─▶ methods ─────────────▶ integer graph ─▶ package
         (text)     (sinks)   (checkpoint per unit)  (lowered)        (appears whole or not at all)
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from mobilequant.data.text import Text, load_text
from mobilequant.data.window import after_prefix
from mobilequant.errors import UsageError
from mobilequant.integer.graph import IntegerGraph
from mobilequant.integer.lower import lower
from mobilequant.integer.package import MANIFEST
from mobilequant.integer.provable import provable
from mobilequant.jobs.calibration import Sample, calibration_windows, tokenizer_of
from mobilequant.jobs.device import require_device, require_device_memory
from mobilequant.jobs.fingerprint import model_sha256
from mobilequant.jobs.fit import require_fit
from mobilequant.jobs.package import write_package
from mobilequant.jobs.plan import measured_flops_per_s, plan_quantize
from mobilequant.jobs.self_generated import SelfGenerated, self_generated
from mobilequant.jobs.shared_work import search_alike, shared_steps
from mobilequant.jobs.training_plan import batch_of
from mobilequant.methods.registry import make_all
from mobilequant.methods.run import run_methods
from mobilequant.models.model import Model
from mobilequant.models.quantized import QuantizedModel
from mobilequant.models.sources.builtin import builtins
from mobilequant.models.sources.resolver import resolve
from mobilequant.observe.sink import find_prefix
from mobilequant.pipeline import parallel, resource
from mobilequant.pipeline.checkpoint import Borrowing, Checkpoint, NoCheckpoint
from mobilequant.pipeline.environment import environment
from mobilequant.pipeline.lock import locked
from mobilequant.pipeline.method import Method
from mobilequant.pipeline.output_folder import new_folder, require_free
from mobilequant.pipeline.progress import Track, silent
from mobilequant.pipeline.recipe import SELF_GENERATED, CalibrationData, Recipe, choose_recipe, recipe_hash
from mobilequant.pipeline.resource import Plan
from mobilequant.pipeline.workspace import Run, Workspace, open_workspace

logger = logging.getLogger(__name__)

_PREFIX = "prefix"


def quantize(
    model: str | Path,
    *,
    preset: str | None = None,
    recipe: str | Path | Recipe | None = None,
    out: str | Path,
    work_dir: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    seed: int | None = None,
    device: str = "cpu",
    dry_run: bool = False,
    track: Track = silent,
) -> Path:
    """Quantize a model to an integer package and return its folder.

    Args:
        model: a built-in name, a Hugging Face folder, a .gguf file or a hub id.
        preset: a name that ``mobilequant recipes`` lists (default w8a8-fast), or give ``recipe``.
        recipe: a ``Recipe`` or the path of a YAML file.
        out: the folder of the package; a package that lies there is replaced only with ``force``.
        work_dir: where finished units are kept; default is ``out`` + ".work", removed when all is done.
        resume: continue the unfinished run in ``work_dir``.
        seed: replaces the recipe's seed (of the methods; the windows have their own in ``data.seed``).
        device: where tensors are computed, "cpu" or "cuda".
        dry_run: check everything and log the plan, but do not start.

    Raises:
        MobileQuantError: with what is wrong and what to do; nothing is half-written.

    Started by ``torchrun``, the processes share the work, and each returns when the package is there.
    """
    chosen = choose_recipe(preset, recipe, seed)
    with parallel.joined(device) as own:
        job = prepare(model, chosen, out=out, work_dir=work_dir, force=force, device=own, track=track)
        if dry_run:
            logger.info("plan: %s", job.plan)
            return job.out
        return run_together(job, resume=resume, force=force, track=track)


def run_together(job: Job, *, resume: bool = False, force: bool = False, track: Track = silent) -> Path:
    """``Job.run`` in the first process, where there are several; the others help it, and wait until all is written.

    Returns the folder of the package.
    """
    if parallel.rank() == 0:
        job.run(resume=resume, force=force, track=track)
    else:
        job.help()
    return parallel.same(job.out)


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: the package on disk, and the quantized model on the CPU for whoever wants to look inside."""

    package: Path
    quantized: QuantizedModel
    graph: IntegerGraph
    windows: Tensor


@dataclass(frozen=True)
class Job:
    """A run that has been checked and may start: everything is loaded, nothing is written.

    The model waits in the memory of the host; what is computed with, and changed, is a copy on ``device``.
    """

    name: str
    model: Model
    device: str
    text: Text
    windows: Tensor
    training: Sample | SelfGenerated | None  # where the recipe names a text for it
    recipe: Recipe
    methods: Sequence[Method]
    plan: Plan
    out: Path
    work_dir: Path
    keeps_work: bool

    @cached_property
    def model_sha256(self) -> str:
        """Which model this is."""
        return model_sha256(self.model)

    def run(
        self, *, resume: bool = False, force: bool = False, after: Job | None = None, track: Track = silent
    ) -> Outcome:
        """Do the work.

        Args:
            after: a finished job whose work folder is still there; steps that both begin with are taken from it.

        Raises:
            UsageError: the work folder holds another or an unfinished run, or one that is at work.
            ResourceError: something cannot be written.
            LoweringError: the result cannot become an integer graph.
        """
        trained_on = self.training.text.sha256 if self.training else None
        run = Run(self.name, self.model_sha256, self.text.sha256, self.recipe, trained_on)
        with locked(self.work_dir):
            workspace = open_workspace(self.work_dir, run, resume=resume, force=force)
            training = self._trained_on(workspace, track)
            quantized = self._quantized(workspace, training, after, track)
            graph = lower(quantized)
            with new_folder(self.out, force=force, marker=MANIFEST) as folder:
                write_package(folder, graph, quantized, self.recipe, self._about(run, quantized, training))
            if not self.keeps_work:
                workspace.remove()
        return Outcome(self.out, quantized, graph, self.windows.cpu())

    def help(self) -> None:
        """Do the part of a process that is not the first: the same work, of which nothing is written."""
        training = self._trained_on(NoCheckpoint(), silent)
        self._run_methods(self._prefix(None, silent), training, NoCheckpoint(), silent)

    def _trained_on(self, checkpoint: Checkpoint, track: Track) -> Sample | None:
        """The windows of the text for training; those that the model writes are written now."""
        if not isinstance(self.training, SelfGenerated):
            return self.training
        return self.training.sample(self.model.to(device=self.device), checkpoint, track)

    def _quantized(
        self, workspace: Workspace, training: Sample | None, after: Job | None, track: Track
    ) -> QuantizedModel:
        checkpoint: Checkpoint = workspace
        if after is not None and search_alike(after, self):
            lender = Workspace(after.work_dir)
            checkpoint = Borrowing(workspace, lender, shared_steps(after, self))
            if (tokens := lender.note(_PREFIX)) is not None:
                workspace.keep_note(_PREFIX, tokens)
        quantized = self._run_methods(self._prefix(workspace, track), training, checkpoint, track)
        return provable(quantized.to("cpu"))  # from here on numpy computes

    def _run_methods(
        self, prefix: tuple[int, ...], training: Sample | None, checkpoint: Checkpoint, track: Track
    ) -> QuantizedModel:
        bos = self.model.arch.leading_token
        windows = after_prefix(self.windows, prefix, bos)
        return run_methods(
            self.model.to(device=self.device),  # not bound to a name: the methods free what they replace
            self.recipe.base_scheme(),
            self.methods,
            windows,
            training=after_prefix(training.windows, prefix, bos) if training else None,
            prefix=prefix,
            seed=self.recipe.seed,
            checkpoint=checkpoint,
            track=track,
        )

    def _prefix(self, workspace: Workspace | None, track: Track) -> tuple[int, ...]:
        """The prefix tokens: given, remembered from before a resume, or searched; only the first process remembers."""
        choice = self.recipe.prefix
        if choice.tokens != "auto":
            return choice.tokens
        found = parallel.same(workspace.note(_PREFIX) if workspace else None)
        if found is None:
            model = self.model.to(device=self.device)
            found = parallel.same(find_prefix(model, self.windows, max_tokens=choice.max_tokens, track=track))
            if workspace:
                workspace.keep_note(_PREFIX, list(found))
        return tuple(found)

    def _about(self, run: Run, quantized: QuantizedModel, training: Sample | None) -> dict[str, Any]:
        """What the manifest says of where the package comes from."""
        arch = self.model.arch
        return {
            "model": {"name": self.name, "sha256": run.model_sha256, "family": arch.family},
            "scheme": quantized.scheme.name,
            "sixteen_bit": sorted(quantized.scheme.sixteen_bit),
            "eight_bit": sorted(quantized.scheme.eight_bit),
            "recipe_sha256": recipe_hash(self.recipe),
            "prefix_tokens": list(quantized.prefix.tokens) if quantized.prefix else [],
            "leading_token": arch.leading_token,
            "calibration": {"text": self.text.name, "sha256": self.text.sha256},
            **({"training": training.origin()} if training else {}),
            "environment": environment().model_dump(),
        }


def prepare(
    model: str | Path,
    recipe: Recipe,
    *,
    out: str | Path,
    work_dir: str | Path | None = None,
    force: bool = False,
    device: str = "cpu",
    loaded: Model | None = None,
    track: Track = silent,
) -> Job:
    """Check the request, cheap things first, and load what it names; ``loaded`` is the model where it is at hand.

    Raises:
        MobileQuantError: anything that would stop the run later.
    """
    out, keeps_work = Path(out), work_dir is not None
    work = Path(work_dir) if work_dir is not None else out.parent / f"{out.name}.work"
    _require_apart(out, work)
    if parallel.rank() == 0:
        require_free(out, force=force, marker=MANIFEST)
    methods = make_all(recipe)
    for method in methods:
        if (batch := batch_of(method, recipe.training or recipe.data)) is not None:
            parallel.require_divisible(batch, f"method {method.name!r}")
    require_device(device)

    name = _portable_name(model)
    with parallel.first_ahead():
        source = (loaded or resolve(name, track=track)).to(device="cpu")
    require_fit(source.arch, recipe)
    plan = plan_quantize(source.arch, recipe, measured_flops_per_s(device), device)
    plan = plan.shared(parallel.world_size(), parallel.processes_here())
    require_device_memory(plan.device_bytes, device)
    if parallel.rank() == 0:
        resource.require(plan, out=out, work_dir=work)
    with parallel.first_ahead():
        data = _drawn(source, recipe.data, device)
        training = _for_training(source, recipe.training, device) if recipe.training else None
    return Job(name, source, device, data.text, data.windows, training, recipe, methods, plan, out, work, keeps_work)


def _drawn(model: Model, data: CalibrationData, device: str) -> Sample:
    text = load_text(data.text)
    ids = tokenizer_of(model).encode(text.content)
    return Sample(text, calibration_windows(ids, data, model.arch).to(device))


def _for_training(model: Model, data: CalibrationData, device: str) -> Sample | SelfGenerated:
    return self_generated(model, data) if data.text == SELF_GENERATED else _drawn(model, data, device)


def _require_apart(out: Path, work_dir: Path) -> None:
    """Neither folder may lie in the other: one appears whole, the other is emptied."""
    if not out.name or out.name == "..":
        raise UsageError(f"--out is {str(out)!r}", "Give the folder of the new package a name.")
    places = [Path(os.path.realpath(folder)) for folder in (out, work_dir)]
    if places[0].is_relative_to(places[1]) or places[1].is_relative_to(places[0]):
        raise UsageError(f"--out {out} and --work-dir {work_dir} overlap", "Put them side by side.")


def _portable_name(model: str | Path) -> str:
    """A local model by its full path, so that the package finds it from any folder; other names as they are."""
    is_local = str(model) not in {builtin.name for builtin in builtins()} and Path(model).exists()
    return str(Path(model).resolve()) if is_local else str(model)
