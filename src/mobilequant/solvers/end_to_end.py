"""End-to-end training (MobileQuant, arXiv 2408.13933, §4.2): all parts of a student at once, against the float one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mobilequant.models import decoder
from mobilequant.models.model import KVPrefix, Model
from mobilequant.pipeline.progress import Track, silent
from mobilequant.solvers.compiled_block import compiled_body
from mobilequant.solvers.diagnosis import first_broken
from mobilequant.solvers.objective import relative_error, squared_error
from mobilequant.solvers.schedule import Schedule
from mobilequant.solvers.student import Student
from mobilequant.solvers.trainer import History, Memory, Task, train

_TOP = 64  # tokens of the teacher that are told apart


def distill(
    student: Student,
    teacher: Model,
    prefix: KVPrefix | None,
    windows: Tensor,
    held_out: Tensor,
    schedule: Schedule,
    *,
    hidden_weight: float,
    order: torch.Generator,
    memory: Memory | None = None,
    track: Track = silent,
) -> History:
    """KL on the teacher's likeliest tokens + ``hidden_weight`` · relative error behind the last block, windows (N, T).

    The state with the least divergence on the held-out windows (M, T) is kept. The teacher, the float model with its
    float prefix, is asked again in each step: a fresh window costs no more so than one whose answers are stored.
    """
    student = student.for_training(schedule.steps(len(windows)))

    @torch.no_grad()
    def check() -> float:
        parts = held_out.split(schedule.batch)
        found = (_losses(student, teacher, prefix, part)[0].item() * len(part) for part in parts)
        return sum(found) / len(held_out)

    task = Task(
        "end to end",
        student.parameters(student.parts()),
        distillation(student, teacher, prefix, hidden_weight),
        (windows,),
        check,
        broken=lambda batch: first_broken(student, batch[0]),
    )
    return train(task, schedule, order, memory=memory, track=track)


def distillation(
    student: Student, teacher: Model, prefix: KVPrefix | None, hidden_weight: float
) -> Callable[[Tensor], Tensor]:
    """What ``distill`` makes small, as a function of tokens (B, T)."""

    def loss(tokens: Tensor) -> Tensor:
        divergence, error = _losses(student, teacher, prefix, tokens)
        return divergence + hidden_weight * error

    return loss


def match_hidden(
    student: Student,
    windows: Tensor,
    hidden: Tensor,
    schedule: Schedule,
    *,
    order: torch.Generator,
    memory: Memory | None = None,
    track: Track = silent,
) -> History:
    """As published: mean squared error of the residual (N, T, C) behind the last block; the last state stays."""
    student = student.for_training(schedule.steps(len(windows)))

    def loss(tokens: Tensor, wanted: Tensor) -> Tensor:
        return squared_error(student.body(tokens), wanted)

    leaves = student.parameters(student.parts()[:-1])
    task = Task("end to end", leaves, loss, (windows, hidden), broken=lambda batch: first_broken(student, batch[0]))
    return train(task, schedule, order, memory=memory, track=track)


def _losses(student: Student, teacher: Model, prefix: KVPrefix | None, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Divergence, and relative error behind the last block, of tokens (B, T)."""
    trained = torch.is_grad_enabled()
    with torch.no_grad():
        wanted = (
            compiled_body(student.compiler, teacher, tokens, prefix)
            if trained
            else decoder.body(teacher, tokens, prefix=prefix)
        )
    found = student.body(tokens)
    top, which = (torch.stack(each) for each in zip(*(_top(teacher, hidden) for hidden in wanted), strict=True))
    return student.divergence(found, top, which), relative_error(found, wanted)


@torch.no_grad()
def _top(teacher: Model, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities (T, K) of the likeliest tokens behind the last residuals (T, C) of a window, and which these
    are; of its logits no more is kept."""
    logits = decoder.head(teacher, hidden[None])[0]
    top, tokens = logits.topk(min(_TOP, teacher.arch.vocab_size), dim=-1)
    return top - logits.logsumexp(-1, keepdim=True), tokens
