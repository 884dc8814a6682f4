"""Two processes against one. This file is also the program that torchrun starts: see ``__main__`` at its end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import pytest
import torch

from interruption import KilledError, killing
from mobilequant.arch import point
from mobilequant.errors import UsageError
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.decoder import compute_prefix
from mobilequant.models.tiny import tiny_model
from mobilequant.observe.collect import collect
from mobilequant.pipeline import parallel
from mobilequant.pipeline.checkpoint import InMemory, OfFirst
from mobilequant.pipeline.method import Need, StatisticKind
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.schedule import Rate, Schedule
from mobilequant.solvers.trainer import Task, train
from processes import in_two

WINDOWS = torch.randint(0, 96, (7, 8), generator=torch.Generator().manual_seed(4))
STEPS = 12  # 9 items in batches of 2, three times
SCHEDULE = Schedule(3, 2, {"slope": Rate(0.1, 0.01), "shift": Rate(0.2, 0.02)}, checks=4)
X = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([1.0, -2.0, 3.0]) + 0.5
KINDS = [kind for kind in get_args(StatisticKind) if kind != "session"]
EXACT = {"range", "minmax", "absmax", "token_absmax", "plane_reach"}
ONLY_CHANNELS, ONLY_HEADS = ("mean", "hessian"), ("plane_reach",)
TRAINED = [
    ("ranges", {"estimator": "minmax"}),
    ("rtn", {}),
    ("mobilequant", {"batch": 2, "held_out": 3, "epochs": 4, "prefix": True}),
]


class Kept:
    """The memory of a training, in the checkpoint of the first process."""

    def __init__(self):
        self.checkpoint = OfFirst(InMemory(frozenset({"step"})))

    def keep(self, state):
        self.checkpoint.save("step", "unit", state)

    def recall(self):
        return self.checkpoint.load("step", "unit")


def statistics(count):
    """Every kind at a point with channels and one with heads."""
    model = tiny_model("llama")
    needs = [Need(kind, name) for kind in KINDS for name in (point.at(1, "product"), point.at(0, "v"))]
    wanted = [
        need for need in needs if need.kind not in (ONLY_CHANNELS if point.role_of(need.point) == "v" else ONLY_HEADS)
    ]
    return collect(model, WINDOWS[:count], wanted, prefix=compute_prefix(model, (1, 5)))


def line(batch=2, start=0.0, killed_after=None):
    """The leaves of a line through points, trained; only the first process's start counts, and its held-out loss."""
    leaves = {"a.slope": torch.full((3,), start, requires_grad=True), "a.shift": torch.zeros((), requires_grad=True)}

    def loss(x, y):
        return (x @ leaves["a.slope"] + leaves["a.shift"] - y).square().mean()

    @torch.no_grad()
    def check():
        return loss(X, Y).item() * (-1.0) ** parallel.rank()  # what another process finds would choose the worst

    memory = Kept()
    task = Task("line", leaves, loss, (X, Y), check)
    schedule = Schedule(SCHEDULE.epochs, batch, SCHEDULE.rates, checks=SCHEDULE.checks)
    if killed_after is not None:
        with pytest.raises(KilledError):
            train(task, schedule, order(), memory=memory, track=killing(killed_after))
    history = train(task, schedule, order(), memory=memory)
    return {name: leaf.detach() for name, leaf in leaves.items()}, history.training, history.held_out


def order():
    return torch.Generator().manual_seed(6)


def quantized(entries, bits):
    found = run_methods(
        tiny_model("llama"),
        Scheme(bits),
        [make(name, options) for name, options in entries],
        WINDOWS,
        prefix=(1, 5),
    )
    codes = {name: (weight.codes, weight.scale) for name, weight in found.weights.items()}
    return codes, {name: (each.scale, each.zero_point) for name, each in found.activations.items()}


def everything():
    """What both sides compute."""
    return {
        "statistics": statistics(7),
        "one window": statistics(1),
        "line": line(start=float(parallel.rank())),
        "resumed": line(killed_after=5),
        "trained": quantized(TRAINED, 8),
        "gptq": quantized([("smoothquant", {}), ("ranges", {"estimator": "minmax"}), ("gptq", {})], 8),
    }


def program(folder):
    """What torchrun starts twice."""
    torch.set_num_threads(1)
    with parallel.joined("cpu") as device:
        found = everything()
        with pytest.raises(UsageError, match="2 processes cannot divide a batch of 3"):
            line(batch=3)
        with pytest.raises(UsageError, match="2 processes cannot divide a batch of 1"):
            line(batch=1)
        found["here"] = (device, parallel.rank(), parallel.world_size(), parallel.share(list("abcde")))
        found["told"] = (parallel.same(parallel.rank()), list(parallel.from_each(parallel.rank() * 10)))
        torch.save(found, folder / f"{parallel.rank()}.pt")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    in_two(__file__, folder, check=True)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone():
    return everything()


def tensors(value):
    """All numbers of a nested value, flat."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [each for part in value for each in tensors(part)]
    if hasattr(value, "__dataclass_fields__"):
        return tensors(vars(value))
    return [torch.as_tensor(value)]


def equal(one, other):
    pairs = zip(tensors(one), tensors(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def close(one, other):
    pairs = zip(tensors(one), tensors(other), strict=True)
    return all(torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-6) for a, b in pairs)


def test_each_process_knows_its_place_and_its_part(both):
    assert both[0]["here"] == ("cpu", 0, 2, ["a", "b"])
    assert both[1]["here"] == ("cpu", 1, 2, ["c", "d", "e"])
    assert both[0]["told"] == both[1]["told"] == (0, [0, 10])


@pytest.mark.parametrize("part", ["statistics", "one window", "line", "resumed", "trained", "gptq"])
def test_both_processes_have_the_same_bits(both, part):
    assert equal(both[0][part], both[1][part])


@pytest.mark.parametrize("part", ["statistics", "one window"])
def test_statistics_are_those_of_one_process(both, alone, part):
    assert both[0][part].keys() == alone[part].keys()
    for need, statistic in alone[part].items():
        assert (equal if need.kind in EXACT else close)(both[0][part][need], statistic), need


def test_training_goes_where_one_process_would_go(both, alone):
    assert close(both[0]["line"], alone["line"])
    assert close(both[0]["trained"][1], alone["trained"][1])
    codes = both[0]["trained"][0]
    assert all(close(codes[name][1], scale) for name, (_, scale) in alone["trained"][0].items())


def test_all_resume_from_the_state_of_the_first(both, alone):
    assert equal(both[0]["resumed"], both[0]["line"])
    assert equal(alone["resumed"], alone["line"])


def test_streamed_blocks_give_the_codes_of_one_process(both, alone):
    codes, ranges = alone["gptq"]
    assert equal(both[0]["gptq"][1], ranges)
    different = sum((both[0]["gptq"][0][name][0] != each).sum().item() for name, (each, _) in codes.items())
    assert different <= 0.01 * sum(each.numel() for each, _ in codes.values())  # a tie may fall the other way


def test_alone_nothing_is_divided_and_nothing_happens():
    values = [torch.ones(2)]
    parallel.average(values)
    assert torch.equal(values[0], torch.ones(2))
    assert (parallel.rank(), parallel.world_size(), parallel.same("x")) == (0, 1, "x")
    assert list(parallel.from_each(3)) == [3] and parallel.share([1, 2]) == [1, 2]
    with parallel.joined("cuda:1") as device:
        assert device == "cuda:1"


def test_what_several_processes_cannot_use_is_refused(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "64", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="'cuda:1' cannot be shared"), parallel.joined("cuda:1"):
        pass
    with pytest.raises(UsageError, match="process 64 of this host has no GPU"), parallel.joined("cuda"):
        pass


if __name__ == "__main__":
    program(Path(sys.argv[1]))
