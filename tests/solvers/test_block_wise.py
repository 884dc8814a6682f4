"""Both ways to train a student, with the float model as teacher."""

from __future__ import annotations

import pytest
import torch

from mobilequant.methods.mobilequant.faithful import PUBLISHED_PAIRS, last_residuals, published_student
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models import decoder
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers import student as student_module
from mobilequant.solvers.block_wise import PUBLISHED, RELATIVE, train_blocks
from mobilequant.solvers.compiler import Compiler
from mobilequant.solvers.end_to_end import distill, match_hidden
from mobilequant.solvers.objective import squared_error
from mobilequant.solvers.schedule import Rate, Schedule

WINDOWS = torch.randint(0, 96, (8, 10), generator=torch.Generator().manual_seed(8))
KINDS = ("free_scale", "high", "low", "scale", "offset")


def schedule(epochs, batch, rate=1e-2):
    rates = {kind: Rate(rate, 0.1 * rate) for kind in KINDS} | dict.fromkeys(("scale", "offset"), Rate(1e-6, 1e-7))
    return Schedule(epochs, batch, rates)


@pytest.fixture
def state():
    recipe = [make("ranges", {"estimator": "minmax"}), make("rtn", {})]
    return run_methods(tiny_model("llama"), Scheme(4), recipe, WINDOWS, prefix=(1, 5))


def order():
    return torch.Generator().manual_seed(3)


@torch.no_grad()
def error(student, state):
    return squared_error(student.body(WINDOWS), decoder.body(state.model, WINDOWS, prefix=state.prefix)).item()


def published(state, learn_ranges=True):
    return published_student(state, PUBLISHED_PAIRS, learn_ranges=learn_ranges)


@pytest.mark.parametrize("loss", [PUBLISHED, RELATIVE])
def test_blocks_learn_one_behind_the_other(state, loss):
    student, names = published(state, learn_ranges=False), []

    def memory_of(name):
        names.append(name)

    before = error(student, state)
    histories = train_blocks(
        student, state.model, state.prefix, WINDOWS, schedule(6, 2), order(), loss=loss, memory_of=memory_of
    )
    assert names == ["layers.0", "layers.1"]
    assert all(history.training[-1] < history.training[0] for history in histories)
    assert error(student, state) < 0.95 * before


def test_the_first_block_sees_what_the_student_embeds_and_the_last_what_the_blocks_before_made(state):
    """With a rate of nothing, the loss of each block is that of the untrained student."""
    student = published(state)
    histories = train_blocks(
        student, state.model, state.prefix, WINDOWS, schedule(1, 8, rate=0.0), order(), loss=PUBLISHED
    )
    assert histories[-1].training[0] == pytest.approx(error(published(state), state), rel=1e-2)


def test_the_published_way_matches_the_last_residual(state):
    student = published(state)
    before = error(student, state)
    wanted = last_residuals(state.model, state.prefix, WINDOWS)
    history = match_hidden(student, WINDOWS, wanted, schedule(6, 2), order=order())
    assert history.held_out == [] and len(history.training) == 6
    assert error(student, state) < 0.95 * before
    head = student.parameters(["head"])
    start = published(state).parameters(["head"])
    assert all(torch.equal(leaf, start[name]) for name, leaf in head.items())


def test_distilling_keeps_the_state_with_the_least_held_out_divergence(state):
    student = published(state)
    history = distill(
        student, state.model, state.prefix, WINDOWS[2:], WINDOWS[:2], schedule(3, 3), hidden_weight=0.1, order=order()
    )
    assert history.least <= history.held_out[0][1]
    again = distill(
        student,
        state.model,
        state.prefix,
        WINDOWS[2:],
        WINDOWS[:2],
        schedule(1, 3, rate=0.0),
        hidden_weight=0.1,
        order=order(),
    )
    assert again.held_out[0][1] == pytest.approx(history.least, rel=1e-4)


def in_blocks(student, state, **given):
    train_blocks(student, state.model, state.prefix, WINDOWS, schedule(3, 3), order(), **given)


def end_to_end(student, state, **given):
    match_hidden(student, WINDOWS, torch.zeros(8, 10, 48), schedule(3, 3), order=order(), **given)


def distilled(student, state, **given):
    windows = (WINDOWS, WINDOWS[:1])
    distill(student, state.model, state.prefix, *windows, schedule(3, 3), hidden_weight=0.1, order=order(), **given)


@pytest.mark.parametrize("training", [in_blocks, end_to_end, distilled])
def test_a_training_asks_for_a_compiler_by_all_of_its_steps(state, training, monkeypatch):
    asked, lengths = [], []

    def compiler_for(steps):
        asked.append(steps)
        return Compiler(None)

    def track(batches, name, total):
        lengths.append(total)
        return batches

    monkeypatch.setattr(student_module, "compiler_for", compiler_for)
    training(published(state), state, track=track)
    assert asked == [6] and set(lengths) == {6}
