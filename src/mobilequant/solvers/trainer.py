"""The loop of every training: AdamW over the leaves of a student, rates by kind of leaf, the best state kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.pipeline.progress import Track, silent
from mobilequant.solvers.captured_step import CapturedStep
from mobilequant.solvers.learned.piece import Tensors

Batch = Sequence[Tensor]
Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class Rate:
    """A learning rate that falls from ``first`` to ``last`` along half a cosine."""

    first: float
    last: float

    def at(self, progress: float) -> float:
        """The rate when ``progress`` (0 … 1) of the steps are done."""
        return self.last + 0.5 * (self.first - self.last) * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Schedule:
    """How long, how much at a time, how fast.

    rates: by kind of leaf, which is the last part of its name. clip: largest norm of the gradient of one kind.
    warmup: part of the steps in which rates rise from zero. checks: how often the held-out windows are looked at.
    """

    epochs: int
    batch: int
    rates: Mapping[str, Rate]
    clip: float | None = 1.0
    warmup: float = 0.0
    checks: int = 8


@dataclass
class History:
    """Mean training loss of each epoch, and (step, held-out loss) of each check."""

    training: list[float] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)


def train(
    leaves: Tensors,
    loss: Loss,
    data: Batch,
    schedule: Schedule,
    *,
    order: torch.Generator,
    check: Callable[[], float] | None = None,
    task: str = "training",
    track: Track = silent,
) -> History:
    """Make ``loss(*batch)`` small; ``data`` are tensors (N, …) that are cut into batches along N.

    With ``check``, the leaves end as they were when it gave its least value, the start included.
    """
    kinds = sorted({point.role_of(name) for name in leaves})
    groups = [{"params": [leaves[n] for n in leaves if point.role_of(n) == kind], "kind": kind} for kind in kinds]
    flat = list(leaves.values())
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), weight_decay=0.0, fused=flat[0].is_cuda)
    step = CapturedStep(loss, flat) if flat[0].is_cuda else _step(loss, flat)
    batches = max(1, len(data[0]) // schedule.batch)
    total = schedule.epochs * batches
    history, best = History(), _Best(flat)
    check_at = {round(total * (i + 1) / schedule.checks) for i in range(schedule.checks)} if check else set()
    if check:
        best.offer(check(), 0, history)
    losses: list[Tensor] = []
    for done, chosen in enumerate(track(_batches(len(data[0]), schedule, batches, order), task, total)):
        losses.append(step(*(each[chosen.to(each.device)] for each in data)))
        for group in optimizer.param_groups:
            if schedule.clip:
                torch.nn.utils.clip_grad_norm_(group["params"], schedule.clip)
            rise = min(1.0, (done + 1) / max(1.0, schedule.warmup * total))
            group["lr"] = rise * schedule.rates[group["kind"]].at(done / total)
        optimizer.step()
        if len(losses) == batches:
            history.training.append(torch.stack(losses).mean().item())
            losses = []
        if check and done + 1 in check_at:
            best.offer(check(), done + 1, history)
    if check:
        best.restore()
    return history


def _step(loss: Loss, leaves: Sequence[Tensor]) -> Callable[..., Tensor]:
    def step(*batch: Tensor) -> Tensor:
        for each in leaves:
            each.grad = None
        found = loss(*batch)
        found.backward()
        return found.detach()

    return step


def _batches(items: int, schedule: Schedule, batches: int, order: torch.Generator) -> Iterator[Tensor]:
    for _ in range(schedule.epochs):
        shuffled = torch.randperm(items, generator=order)
        yield from shuffled[: batches * min(schedule.batch, items)].chunk(batches)


class _Best:
    """The leaves at the least held-out loss so far."""

    def __init__(self, leaves: Sequence[Tensor]) -> None:
        self._leaves, self._kept, self._least = leaves, [each.detach().clone() for each in leaves], math.inf

    def offer(self, value: float, step: int, history: History) -> None:
        history.held_out.append((step, value))
        if value < self._least:
            self._least = value
            for kept, each in zip(self._kept, self._leaves, strict=True):
                kept.copy_(each.detach())

    @torch.no_grad()
    def restore(self) -> None:
        for kept, each in zip(self._kept, self._leaves, strict=True):
            each.copy_(kept)
