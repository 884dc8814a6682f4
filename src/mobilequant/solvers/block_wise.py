"""Block-wise training (OmniQuant, arXiv 2308.13137, eq. 1): each block alone, behind blocks that are finished.

residuals of the float model    h  ─▶ block ─▶ h'        the block as rounded, reading ĥ, is to write h'
residuals of the student        ĥ  ─▶ block ─▶ ĥ'        and is left as it is when the next one begins
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mobilequant.models import decoder
from mobilequant.models.model import KVPrefix, Model
from mobilequant.pipeline.progress import Track, silent
from mobilequant.solvers.diagnosis import first_broken
from mobilequant.solvers.objective import relative_error, squared_error
from mobilequant.solvers.schedule import Schedule
from mobilequant.solvers.student import Student
from mobilequant.solvers.trainer import Batch, History, Memory, Task, train

Loss = Callable[[Tensor, Tensor], Tensor]
PUBLISHED: Loss = squared_error
RELATIVE: Loss = relative_error


def train_blocks(
    student: Student,
    teacher: Model,
    prefix: KVPrefix | None,
    windows: Tensor,
    schedule: Schedule,
    order: torch.Generator,
    *,
    loss: Loss = RELATIVE,
    memory_of: Callable[[str], Memory] | None = None,
    track: Track = silent,
) -> list[History]:
    """One training per block on windows (N, T), all of whose residuals are held; the histories in running order."""
    student = student.for_training(schedule.steps(len(windows)))  # one of all blocks: they share what is compiled
    start = len(prefix) if prefix else 0
    with torch.no_grad():
        wanted = torch.cat([decoder.embed(teacher, window[None], start=start) for window in windows])
        reached = torch.cat([student.embed(window[None]) for window in windows])
    histories = []
    for layer in range(teacher.arch.num_layers):
        wanted = _advance(partial(decoder.block, teacher, layer, prefix=prefix), wanted)
        task = _task(student, layer, reached, wanted, loss, windows[:1])
        memory = memory_of(task.name) if memory_of else None
        histories.append(train(task, schedule, order, memory=memory, track=track))
        for leaf in task.leaves.values():
            leaf.grad = None  # all blocks' gradients would be another model
        reached = _advance(partial(student.block, layer), reached)
    return histories


def _task(student: Student, layer: int, reached: Tensor, wanted: Tensor, loss: Loss, window: Tensor) -> Task:
    part = f"layers.{layer}"

    def loss_of(entering: Tensor, leaving: Tensor) -> Tensor:
        return loss(student.block(layer, entering), leaving)

    def broken(batch: Batch) -> str:
        return first_broken(student, window) or part

    return Task(part, student.parameters([part]), loss_of, (reached, wanted), broken=broken)


@torch.no_grad()
def _advance(block: Callable[[Tensor], Tensor], residuals: Tensor) -> Tensor:
    """Residuals (N, T, C) behind a block, a window at a time."""
    return torch.cat([block(hidden[None]) for hidden in residuals])
