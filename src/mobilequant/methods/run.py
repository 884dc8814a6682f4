"""Apply a recipe's methods in order: a checkpoint per unit, the same bytes after a resume.

A method with inputs "float" gets the statistics of the whole (transformed) float model in one pass, which it shares
with its neighbours as far as none of them needs what another changes. A method with
inputs "quantized" is led block by block: the residuals of all windows wait in front of a block, are observed in it,
its units are solved, and the block with its new codes carries them on. A method with inputs "session" gets model and
windows and does the running itself.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.errors import UsageError
from mobilequant.methods import unit as units
from mobilequant.methods.session import SESSION, Session
from mobilequant.methods.state import Workpiece, cached_prefix, check_complete, with_codes
from mobilequant.models.decoder import compute_prefix
from mobilequant.models.model import Model
from mobilequant.models.out_of_memory import OF_PASSES, naming
from mobilequant.models.quantized import QuantizedModel
from mobilequant.observe import stream
from mobilequant.observe.collect import collect
from mobilequant.pipeline import parallel
from mobilequant.pipeline.checkpoint import Checkpoint, NoCheckpoint, OfFirst
from mobilequant.pipeline.memory import return_freed_memory
from mobilequant.pipeline.method import EVERYTHING, Method, Need, Result, Unit
from mobilequant.pipeline.progress import Track, silent
from mobilequant.pipeline.scheme import Scheme

_log = logging.getLogger(__name__)


def run_methods(
    model: Model,
    scheme: Scheme,
    methods: Sequence[Method],
    windows: Tensor,
    *,
    training: Tensor | None = None,
    prefix: tuple[int, ...] = (),
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    track: Track = silent,
) -> QuantizedModel:
    """Quantize ``model`` with calibration windows (N, T); ``prefix`` are the tokens of the constant KV prefix.

    training: windows (M, S) for methods that train; without them these get the calibration windows.

    Several processes (``pipeline.parallel``) call it alike and get the same model; the checkpoint of the first counts.

    Raises:
        UsageError: the methods are in an impossible order, or together leave a weight or activation without integers.
        ResourceError: the memory of the GPU does not suffice; names the block or unit.
    """
    _require_order(methods)
    work = Workpiece(QuantizedModel(model, scheme, {}, {}, compute_prefix(model, prefix) if prefix else None))
    del model  # else its tensors would live until the end, beside those that replace them
    kept = OfFirst(checkpoint or NoCheckpoint())
    steps = [_Step(step_name(number, method), method, seed, kept) for number, method in enumerate(methods)]
    for group in _sharing_a_pass(steps, work.state):
        finished = {step.name: step.saved(work.state.model.arch) for step in group}
        stats = _float_statistics(group, finished, work.state, windows, track)
        for step in group:
            saved = finished[step.name]
            if step.method.inputs == "quantized":
                _run_streamed(step, saved, work, windows, track)
            elif step.method.inputs == "session":
                _run_session(step, saved, work, windows, windows if training is None else training, track)
            else:
                _run_float(step, saved, work, stats, track)
            work.refresh_prefix()
    check_complete(work.state)
    return work.state


def _require_order(methods: Sequence[Method]) -> None:
    """Behind a method that makes another model there is no float model left to compare with."""
    for method, following in itertools.pairwise(methods):
        if method.changes == EVERYTHING:
            raise UsageError(
                f"method {following.name!r} stands behind {method.name!r}, which changes the float model itself",
                f"Put {method.name!r} last.",
            )


def step_name(number: int, method: Method) -> str:
    """Under which a checkpoint keeps what the method in place ``number`` of a recipe has finished."""
    return f"{number}-{method.name}"


@dataclass(frozen=True)
class _Step:
    """One method of the recipe with what its units need besides statistics."""

    name: str
    method: Method
    seed: int
    checkpoint: Checkpoint

    def saved(self, arch: Architecture) -> dict[str, Result]:
        """Results of the units that an earlier run has finished."""
        loaded = {name: self.checkpoint.load(self.name, name) for name in units.all_units(self.method.unit, arch)}
        return {name: result for name, result in loaded.items() if result is not None}

    def solve(
        self, names: Sequence[str], saved: Mapping[str, Result], work: Workpiece, stats: Mapping[Need, Any]
    ) -> None:
        """Take in the results of units, computing and keeping those that are not saved."""
        for name in names:
            result = saved.get(name)
            if result is None:
                result = self._solved(name, work.state, stats)
                self.checkpoint.save(self.name, name, result)
            if result.measures:
                _log.info("%s %s: %s", self.name, name, result.measures)
            if dead := result.measures.get("dead_channels"):
                _log.warning("%s: %d channels are always zero; they are left as they are", name, dead)
            work.take_in(self.method.name, result)

    def _solved(self, name: str, state: QuantizedModel, stats: Mapping[Need, Any]) -> Result:
        """The result of a unit, the same in all processes: of the first; with a session, all of them work at it."""
        works = parallel.rank() == 0 or self.method.inputs == "session"
        return parallel.same(self._apply(name, state, stats) if works else Result())

    def _apply(self, name: str, state: QuantizedModel, stats: Mapping[Need, Any]) -> Result:
        arch, tensors = state.model.arch, state.model.tensors
        seen = Unit(name, arch, tensors, state.activations)
        with naming(f"method {self.method.name!r} at {name}", OF_PASSES):
            return self.method.apply(seen, stats, state.scheme, units.unit_generator(self.seed, name))


def _sharing_a_pass(steps: Sequence[_Step], state: QuantizedModel) -> list[list[_Step]]:
    """The steps in order, in groups: in each, no method needs what one before it in the group changes."""
    groups: list[list[_Step]] = []
    changed: set[str] = set()
    for step in steps:
        needed = {point.role_of(need.point) for need in step.method.needs(state.model.arch, state.scheme)}
        alone = step.method.inputs != "float" or not groups or groups[-1][0].method.inputs != "float"
        if alone or changed & needed:
            groups.append([])
            changed = set()
        groups[-1].append(step)
        changed |= step.method.changes
    return groups


def _float_statistics(
    group: Sequence[_Step],
    finished: Mapping[str, Mapping[str, Result]],
    state: QuantizedModel,
    windows: Tensor,
    track: Track,
) -> Mapping[Need, Any]:
    """What the float methods of a group need, in one pass; no pass when nothing is left to solve."""
    arch = state.model.arch
    methods = [
        step.method
        for step in group
        if step.method.inputs == "float" and len(finished[step.name]) < len(units.all_units(step.method.unit, arch))
    ]
    needs = [(method.name, method.needs(arch, state.scheme)) for method in methods]
    wanted = dict.fromkeys(itertools.chain.from_iterable(points for _, points in needs))
    if not wanted:
        return {}
    task = f"statistics for {' and '.join(name for name, points in needs if points)}"
    return collect(state.model, windows, wanted, prefix=state.prefix, task=task, track=track)


def _run_float(
    step: _Step, saved: Mapping[str, Result], work: Workpiece, stats: Mapping[Need, Any], track: Track
) -> None:
    """All units, from statistics of the float model."""
    names = units.all_units(step.method.unit, work.state.model.arch)
    for name in track(names, step.method.name, len(names)):
        step.solve([name], saved, work, stats)


def _run_session(
    step: _Step, saved: Mapping[str, Result], work: Workpiece, windows: Tensor, training: Tensor, track: Track
) -> None:
    """All units, each by a method that runs the model itself."""
    for name in units.all_units(step.method.unit, work.state.model.arch):
        session = Session(work.state, windows, training, track, step.checkpoint, step.name)
        step.solve([name], saved, work, {SESSION: session})


def _run_streamed(step: _Step, saved: Mapping[str, Result], work: Workpiece, windows: Tensor, track: Track) -> None:
    """Units of each block from a pass through that block alone, its inputs made by the quantized blocks before it."""
    arch, kind = work.state.model.arch, step.method.unit
    if len(saved) == len(units.all_units(kind, arch)):
        step.solve(list(saved), saved, work, {})
        return
    needs = list(dict.fromkeys(step.method.needs(arch, work.state.scheme)))
    step.solve(units.entry_units(kind, arch), saved, work, {})
    tap, prefix = work.state.tap(), cached_prefix(work.state)
    start = len(prefix) if prefix else 0
    residuals = stream.enter(with_codes(work.state, point.tables(arch)), windows, tap=tap, start=start)
    for layer in track(range(arch.num_layers), step.method.name, arch.num_layers):
        names, stats = units.block_units(kind, arch, layer), {}
        if any(name not in saved for name in names):
            stats = stream.observe_block(work.state.model, layer, residuals, needs, tap=tap, prefix=prefix)
        step.solve(names, saved, work, stats)
        rounded = with_codes(work.state, [point.at(layer, role) for role in point.linear_roles(arch)])
        residuals = stream.advance(rounded, layer, residuals, tap=tap, prefix=prefix)
        return_freed_memory()
    head = units.head_units(kind, arch)
    stats = stream.observe_head(work.state.model, residuals, needs, tap=tap) if head else {}
    step.solve(head, saved, work, stats)
