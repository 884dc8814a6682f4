"""The loop of every training: AdamW over the leaves of a student, the best state kept, continued after a kill.

batch ─▶ loss ─▶ gradients ─▶ clipped by kind ─▶ AdamW          a few times: held-out loss ─▶ best state ─▶ memory

Several processes each take their part of a batch and average gradients; so all of them take the same steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.errors import TrainingError
from mobilequant.models.out_of_memory import naming
from mobilequant.pipeline import parallel
from mobilequant.pipeline.method import Result
from mobilequant.pipeline.progress import Track, silent
from mobilequant.solvers.captured_step import CapturedStep
from mobilequant.solvers.learned.piece import Tensors
from mobilequant.solvers.precision import tensor_float32
from mobilequant.solvers.schedule import Schedule

Batch = Sequence[Tensor]
_LOOK = 16  # steps between two looks at whether the loss is still a number
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Memory(Protocol):
    """Where the state of a training survives a kill."""

    def keep(self, state: Result) -> bool:
        """Replace what was kept, or, where that is too early, do nothing; whether it was replaced."""
        ...

    def recall(self) -> Result | None:
        """What was kept."""
        ...


@dataclass(frozen=True)
class Task:
    """What is trained: leaves by name, the loss of a batch, and data (N, …) that are cut into batches along N.

    check: the held-out loss; with it the leaves end as they were at its least value, the start included. broken: the
    name of the first tensor that is not finite for a batch.
    """

    name: str
    leaves: Tensors
    loss: Callable[..., Tensor]
    data: Batch
    check: Callable[[], float] | None = None
    broken: Callable[[Batch], str] = lambda batch: ""


@dataclass
class History:
    """Mean training loss of each epoch, and (step, held-out loss) of each check."""

    training: list[float] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)

    @property
    def least(self) -> float:
        """The held-out loss of the state that is kept."""
        return min((loss for _, loss in self.held_out), default=math.nan)


def train(
    task: Task,
    schedule: Schedule,
    order: torch.Generator,
    *,
    memory: Memory | None = None,
    track: Track = silent,
) -> History:
    """Make the loss of the task small; ``order`` shuffles the data of each epoch.

    The loss must be a mean over the items of a batch: that is what makes it the mean over the parts of a batch too.

    Raises:
        UsageError: the processes cannot divide a batch evenly.
        TrainingError: the loss is no number any more; names the first tensor that is not finite.
        ResourceError: the memory of the GPU does not suffice.
    """
    parallel.require_divisible(min(schedule.batch, len(task.data[0])), task.name)
    with tensor_float32():
        return _trained(_Run(task, schedule), task, schedule, order, memory, track)


def _trained(
    run: _Run, task: Task, schedule: Schedule, order: torch.Generator, memory: Memory | None, track: Track
) -> History:
    done = run.resume(memory)
    run.equalize()
    if done == 0:
        run.check(0)
    total = schedule.steps(len(task.data[0]))
    checked = schedule.check_steps(total)
    batches = itertools.islice(_batches(len(task.data[0]), schedule, order), done, None)
    for step, chosen in enumerate(track(batches, task.name, total - done), start=done):
        own = parallel.share(chosen)
        run.step(step, total, [each[own.to(each.device)] for each in task.data])
        if step + 1 in checked:
            run.check(step + 1)
            if memory is None or memory.keep(run.state(step + 1)):
                run.good = step + 1
    run.finish()
    return run.history


class _Run:
    """The mutable side of a training."""

    def __init__(self, task: Task, schedule: Schedule) -> None:
        self.task, self.schedule, self.history = task, schedule, History()
        self.batches = schedule.batches(len(task.data[0]))
        self._leaves = list(task.leaves.values())
        kinds = dict.fromkeys(point.role_of(name) for name in task.leaves)
        groups = [{"params": [task.leaves[n] for n in task.leaves if point.role_of(n) == k], "kind": k} for k in kinds]
        on_gpu = self._leaves[0].is_cuda
        self._optimizer = torch.optim.AdamW(groups, weight_decay=0.0, fused=on_gpu)
        self._gradients = CapturedStep(task.loss, self._leaves) if on_gpu else _eager_step(task.loss, self._leaves)
        self._best = [each.detach().clone() for each in self._leaves]
        self._epoch: list[Tensor] = []  # losses of this epoch so far
        self.good = 0  # the step of the last state that can be gone back to
        self._batch: Batch = [each[: schedule.batch] for each in task.data]  # the last one, to look for what is broken

    def step(self, number: int, total: int, batch: Batch) -> None:
        """One update."""
        self._batch = batch
        with naming(f"a step of the training {self.task.name}"):
            self._epoch.append(self._gradients(*batch))
            parallel.average([self._epoch[-1], *(each.grad for each in self._leaves if each.grad is not None)])
        if number % _LOOK == 0 and not bool(self._epoch[-1].isfinite()):
            raise self._broken(number)
        for group in self._optimizer.param_groups:
            if self.schedule.clip:
                torch.nn.utils.clip_grad_norm_(group["params"], self.schedule.clip)
            group["lr"] = self.schedule.rate(group["kind"], number, total)
        self._optimizer.step()
        if len(self._epoch) == self.batches:
            self.history.training.append(torch.stack(self._epoch).mean().item())
            self._epoch = []

    @torch.no_grad()
    def equalize(self) -> None:
        """Start where the first process starts."""
        for each, first in zip(self._leaves, parallel.same([each.detach() for each in self._leaves]), strict=True):
            each.copy_(first)

    def check(self, step: int) -> None:
        """Look at the leaves and at the held-out loss, and keep the leaves where it is the least so far."""
        if not all(bool(each.isfinite().all()) for each in self._leaves):
            raise self._broken(step)
        if self.task.check:
            with naming(f"the held-out loss of the training {self.task.name}"):
                loss = parallel.same(self.task.check() if parallel.rank() == 0 else math.nan)
            least = self.history.least
            if not math.isfinite(loss):
                raise self._broken(step)
            self.history.held_out.append((step, loss))
            if loss < least or math.isnan(least):
                self._best = [each.detach().clone() for each in self._leaves]

    @torch.no_grad()
    def finish(self) -> None:
        """Give the leaves their best values, where it is known which these are."""
        if self.task.check:
            for best, each in zip(self._best, self._leaves, strict=True):
                each.copy_(best)

    def state(self, step: int) -> Result:
        """All that a resumed run needs, as copies."""
        tensors = {f"leaf.{name}": each.detach().clone() for name, each in self.task.leaves.items()}
        tensors |= {f"best.{name}": best for name, best in zip(self.task.leaves, self._best, strict=True)}
        for name, each in self.task.leaves.items():
            tensors |= {f"{moment}.{name}": self._optimizer.state[each][moment].clone() for moment in _MOMENTS}
        tensors["epoch"] = torch.stack(self._epoch) if self._epoch else torch.empty(0)
        tensors["training"] = torch.tensor(self.history.training, dtype=torch.float64)
        tensors["held_out"] = torch.tensor(self.history.held_out, dtype=torch.float64).view(-1, 2)
        return Result(tensors=tensors, measures={"step": step})

    @torch.no_grad()
    def resume(self, memory: Memory | None) -> int:
        """Take up what an earlier run has kept; the number of steps that it had done."""
        found = memory.recall() if memory else None
        if found is None:
            return 0
        kept, step = found.tensors, int(found.measures["step"])
        moments = self._optimizer.state_dict()
        ordered = [name for group in moments["param_groups"] for name in self._names(group["kind"])]
        moments["state"] = {number: _moments(kept, name, step) for number, name in enumerate(ordered)}
        self._optimizer.load_state_dict(moments)
        for name, each in self.task.leaves.items():
            each.copy_(kept[f"leaf.{name}"])
        self._best = [kept[f"best.{name}"].clone() for name in self.task.leaves]
        self._epoch = list(kept["epoch"])
        self.history.training = kept["training"].tolist()
        self.history.held_out = [(int(at), loss) for at, loss in kept["held_out"].tolist()]
        self.good = step
        return step

    def _names(self, kind: str) -> list[str]:
        return [name for name in self.task.leaves if point.role_of(name) == kind]

    def _broken(self, step: int) -> TrainingError:
        where = self.task.broken(self._batch)
        return TrainingError(
            f"{self.task.name}: the loss is no number any more after step {step}"
            + (f"; the first tensor that is not finite is {where}" if where else "")
            + f"; the last good state is that of {f'step {self.good}' if self.good else 'its start'}",
            "Lower the `rate` of the method, or check the model and the text with `mobilequant eval`.",
        )


def _moments(kept: Tensors, name: str, step: int) -> Tensors:
    """What the optimizer knows of one leaf; copies, because it changes them in place."""
    return {"step": torch.tensor(float(step)), **{each: kept[f"{each}.{name}"].clone() for each in _MOMENTS}}


def _eager_step(loss: Callable[..., Tensor], leaves: Sequence[Tensor]) -> Callable[..., Tensor]:
    def gradients(*batch: Tensor) -> Tensor:
        for each in leaves:
            each.grad = torch.zeros_like(each)  # not None: a leaf that a batch does not reach keeps its moments moving
        found = loss(*batch)
        found.backward()
        return found.detach()

    return gradients


def _batches(items: int, schedule: Schedule, order: torch.Generator) -> Iterator[Tensor]:
    """Places of the items of each batch; every epoch in another order."""
    size, batches = min(schedule.batch, items), schedule.batches(items)
    for _ in range(schedule.epochs):
        yield from torch.randperm(items, generator=order)[: batches * size].split(size)
