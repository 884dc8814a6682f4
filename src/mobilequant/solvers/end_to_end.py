"""End-to-end training (MobileQuant, arXiv 2408.13933, §4.2): all parts of a student at once, against the float one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mobilequant.pipeline.progress import Track, silent
from mobilequant.solvers.objective import relative_error, squared_error, top_divergence
from mobilequant.solvers.student import Student
from mobilequant.solvers.teacher import Targets
from mobilequant.solvers.trainer import History, Schedule, train


def distill(
    student: Student,
    windows: Tensor,
    targets: Targets,
    held_out: tuple[Tensor, Targets],
    schedule: Schedule,
    *,
    hidden_weight: float,
    order: torch.Generator,
    track: Track = silent,
) -> History:
    """Minimize KL on the likeliest tokens + ``hidden_weight`` · relative error behind the last block, windows (N, T).

    The state with the least divergence on the held-out windows is kept.
    """

    def loss(tokens: Tensor, hidden: Tensor, top: Tensor, likeliest: Tensor) -> Tensor:
        found = student.body(tokens)
        divergence = _divergence(student, found, top, likeliest)
        return divergence + hidden_weight * relative_error(found, hidden)

    @torch.no_grad()
    def check() -> float:
        given, wanted = held_out
        total = 0.0
        for i in range(0, len(given), schedule.batch):
            part = slice(i, i + schedule.batch)
            found = student.body(given[part])
            total += _divergence(student, found, wanted.top[part], wanted.tokens[part]).item() * len(given[part])
        return total / len(given)

    return train(
        student.parameters(student.parts()),
        loss,
        (windows, targets.hidden, targets.top, targets.tokens),
        schedule,
        order=order,
        check=check,
        track=track,
    )


def match_hidden(
    student: Student,
    windows: Tensor,
    hidden: Tensor,
    schedule: Schedule,
    *,
    order: torch.Generator,
    track: Track = silent,
) -> History:
    """As published: mean squared error of the residual (N, T, C) behind the last block; the last state stays."""

    def loss(tokens: Tensor, wanted: Tensor) -> Tensor:
        return squared_error(student.body(tokens), wanted)

    leaves = student.parameters(student.parts()[:-1])
    return train(leaves, loss, (windows, hidden), schedule, order=order, track=track)


def _divergence(student: Student, hidden: Tensor, top: Tensor, likeliest: Tensor) -> Tensor:
    """Window by window, logits made again for the backward pass: at no time are there more than those of one window."""

    def of_window(hidden: Tensor, top: Tensor, likeliest: Tensor) -> Tensor:
        return top_divergence(student.head(hidden[None])[0].float(), top, likeliest)

    total = hidden.new_zeros(())
    for one in zip(hidden, top, likeliest, strict=True):
        if torch.is_grad_enabled():
            total = total + checkpoint(of_window, *one, use_reentrant=False, preserve_rng_state=False)
        else:
            total = total + of_window(*one)
    return total / len(hidden)
