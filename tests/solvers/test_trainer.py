from __future__ import annotations

import math

import pytest
import torch

from interruption import KilledError, killing
from mobilequant.errors import ResourceError, TrainingError
from mobilequant.pipeline.workspace import Workspace
from mobilequant.solvers.schedule import Rate, Schedule
from mobilequant.solvers.trainer import Task, train

SCHEDULE = Schedule(epochs=3, batch=2, rates={"slope": Rate(0.1, 0.01), "shift": Rate(0.2, 0.02)}, checks=4)
STEPS = 15  # 11 items in batches of 2: 5 steps of an epoch
X = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([1.0, -2.0, 3.0]) + 0.5


class Kept:
    """A memory in a variable."""

    def __init__(self):
        self.state, self.steps = None, []

    def keep(self, state):
        self.state = state
        self.steps.append(int(state.measures["step"]))
        return True

    def recall(self):
        return self.state


class OnDisk:
    """A memory in a workspace."""

    def __init__(self, folder):
        self.workspace = Workspace(folder)

    def keep(self, state):
        self.workspace.save("0-x", "training", state)
        return True

    def recall(self):
        return self.workspace.load("0-x", "training")


def line(*, checked=True, spoiled_at=None, name="line"):
    """A line through points; from call ``spoiled_at`` of its loss on, that is no number."""
    leaves = {"a.slope": torch.zeros(3, requires_grad=True), "a.shift": torch.zeros((), requires_grad=True)}
    calls = []

    def loss(x, y):
        calls.append(1)
        error = (x @ leaves["a.slope"] + leaves["a.shift"] - y).square().mean()
        return error * math.nan if spoiled_at is not None and len(calls) > spoiled_at else error

    @torch.no_grad()
    def check():
        return (X @ leaves["a.slope"] + leaves["a.shift"] - Y).square().mean().item()

    return Task(name, leaves, loss, (X, Y), check if checked else None, broken=first_broken(leaves))


def first_broken(leaves):
    return lambda batch: next((name for name, leaf in leaves.items() if not leaf.isfinite().all()), "")


def order():
    return torch.Generator().manual_seed(6)


def run(task, schedule=SCHEDULE, **options):
    history = train(task, schedule, order(), **options)
    return {name: leaf.detach().clone() for name, leaf in task.leaves.items()}, history


def assert_same(one, other):
    assert one[1] == other[1]
    assert all(torch.equal(leaf, other[0][name]) for name, leaf in one[0].items())


def test_the_loss_falls_and_its_history_is_complete():
    _, history = run(line())
    assert len(history.training) == 3 and history.training[2] < history.training[0]
    assert [step for step, _ in history.held_out] == [0, 4, 8, 11, 15]
    assert history.least < history.held_out[0][1]


def test_the_same_order_gives_the_same_bits_and_another_does_not():
    assert_same(run(line()), run(line()))
    other = line()
    train(other, SCHEDULE, torch.Generator().manual_seed(7))
    assert not torch.equal(other.leaves["a.slope"], run(line())[0]["a.slope"])


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("after", [0, 3, 4, 5, 8, 10, 14])
def test_killed_anywhere_it_resumes_to_equal_bits(after, checked, tmp_path):
    whole = run(line(checked=checked))
    for memory in (Kept(), OnDisk(tmp_path)):
        with pytest.raises(KilledError):
            run(line(checked=checked), memory=memory, track=killing(after))
        assert_same(run(line(checked=checked), memory=memory), whole)


def test_what_is_kept_does_not_change_afterwards():
    memory = Kept()
    for after in (6, 2, 0):
        with pytest.raises(KilledError):
            run(line(), memory=memory, track=killing(after))
    assert_same(run(line(), memory=memory), run(line()))


def test_a_finished_training_is_taken_as_it_is():
    memory = Kept()
    whole = run(line(), memory=memory)
    assert memory.steps == [4, 8, 11, 15]
    again = line()
    assert_same(run(again, memory=memory), whole)
    assert memory.steps == [4, 8, 11, 15]


def test_the_leaves_end_where_the_held_out_loss_was_least():
    task = line()
    losses, seen = iter([5.0, 3.0, 1.0, 2.0, 4.0]), []

    def check():
        seen.append({name: leaf.detach().clone() for name, leaf in task.leaves.items()})
        return next(losses)

    found, history = run(Task(task.name, task.leaves, task.loss, task.data, check))
    assert history.least == 1.0
    assert all(torch.equal(leaf, seen[2][name]) for name, leaf in found.items())


def test_a_start_that_nothing_beats_is_kept():
    task = line()
    losses = iter([1.0, 2.0, 2.0, 2.0, 2.0])
    found, _ = run(Task(task.name, task.leaves, task.loss, task.data, lambda: next(losses)))
    assert all((leaf == 0).all() for leaf in found.values())


def test_without_a_check_the_last_state_stays():
    memory = Kept()
    found, history = run(line(checked=False), memory=memory)
    assert history.held_out == [] and math.isnan(history.least)
    assert torch.equal(found["a.slope"], memory.state.tensors["leaf.a.slope"])


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize(("spoiled_at", "good"), [(0, 0), (3, 0), (4, 4), (9, 8), (14, 11)])
def test_a_loss_that_is_no_number_stops_it_and_is_never_kept(spoiled_at, good, checked):
    memory = Kept()
    with pytest.raises(TrainingError) as caught:
        run(line(checked=checked, spoiled_at=spoiled_at), memory=memory)
    assert "line: the loss is no number" in caught.value.message
    assert ("not finite is a.slope" in caught.value.message) == (spoiled_at > 0)  # the first loss is looked at at once
    assert f"that of {f'step {good}' if good else 'its start'}" in caught.value.message
    assert (memory.steps or [0])[-1] == good
    if memory.state:
        assert all(tensor.isfinite().all() for tensor in memory.state.tensors.values())


def test_a_loss_that_is_no_number_is_noticed_long_before_the_next_check():
    steps = []

    def track(items, task, total):
        for item in items:
            steps.append(1)
            yield item

    schedule = Schedule(epochs=100, batch=2, rates=SCHEDULE.rates, checks=1)
    with pytest.raises(TrainingError, match="after step 16"):
        run(line(spoiled_at=2), schedule, track=track)
    assert len(steps) == 17


def test_a_held_out_loss_that_is_no_number_stops_it_too():
    task = line()
    losses = iter([1.0, 1.0, math.nan])
    with pytest.raises(TrainingError, match="after step 8; the last good state is that of step 4"):
        run(Task(task.name, task.leaves, task.loss, task.data, lambda: next(losses)))


def test_a_kind_with_a_huge_gradient_takes_nothing_from_the_others():
    leaves = {"a.slope": torch.zeros(3, requires_grad=True), "a.shift": torch.zeros((), requires_grad=True)}

    def loss(x, y):
        return 1e3 * (x @ leaves["a.slope"] - y).square().mean() + 1e-4 * leaves["a.shift"]

    train(Task("two kinds", leaves, loss, (X, Y)), Schedule(1, 11, SCHEDULE.rates, clip=0.5), order())
    assert leaves["a.slope"].grad.norm().item() == pytest.approx(0.5, rel=1e-3)
    assert leaves["a.shift"].grad.item() == pytest.approx(1e-4)


def test_memory_that_does_not_suffice_is_told_with_the_training():
    def full(x, y):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    task = line()
    with pytest.raises(ResourceError, match="a step of the training line") as caught:
        run(Task(task.name, task.leaves, full, task.data))
    assert "batch" in caught.value.remedy and "recompute" in caught.value.remedy


def test_fewer_items_than_a_batch_are_one_batch():
    found = []
    leaf = torch.zeros((), requires_grad=True)

    def loss(x):
        found.append(len(x))
        return (leaf - x.mean()).square()

    train(Task("few", {"a.slope": leaf}, loss, (X[:3],)), Schedule(2, 8, SCHEDULE.rates), order())
    assert found == [3, 3]


def test_every_epoch_has_its_own_order_and_leaves_out_what_fills_no_batch():
    found = []
    leaf = torch.zeros((), requires_grad=True)

    def loss(x):
        found.append(x.tolist())
        return (leaf - x.float().mean()).square()

    train(Task("all", {"a.slope": leaf}, loss, (torch.arange(7),)), Schedule(3, 3, SCHEDULE.rates), order())
    epochs = [found[start] + found[start + 1] for start in (0, 2, 4)]
    assert all(len(set(epoch)) == 6 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
