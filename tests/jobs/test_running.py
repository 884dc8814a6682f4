"""Who computes the integers: names, and what does not go together."""

import builtins
import sys

import pytest

from mobilequant.engine.engine import Engine
from mobilequant.errors import UsageError
from mobilequant.jobs.running import ExecutorChoice, choose_executor


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ExecutorChoice("engine")),
        ({"device": "cuda"}, ExecutorChoice("reference", device="cuda")),
        ({"name": "engine:avx2"}, ExecutorChoice("engine", "avx2")),
        ({"name": "engine", "kernels": "avx2"}, ExecutorChoice("engine", "avx2")),
        ({"name": "reference"}, ExecutorChoice("reference")),
    ],
    ids=str,
)
def test_names(given, expected):
    assert choose_executor(**given) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "engin"}, "Did you mean 'engine'"),
        ({"name": ""}, None),
        ({"name": "engine", "device": "cuda"}, "--device cpu"),
        ({"name": "reference:avx2"}, "--kernels"),
        ({"kernels": "avx2", "device": "cuda"}, "--kernels"),
    ],
    ids=str,
)
def test_what_does_not_go_together(given, said):
    if said is None:
        assert choose_executor(**given).name == "engine"
        return
    with pytest.raises(UsageError) as error:
        choose_executor(**given)
    assert said in error.value.remedy


def test_the_reference_without_torch_says_what_to_install(tiny_package, monkeypatch):
    def without_torch(name, *rest, real=builtins.__import__):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "mobilequant.jobs.reference", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_torch)
    assert isinstance(choose_executor().load(tiny_package), Engine)
    with pytest.raises(UsageError, match="needs torch") as error:
        choose_executor("reference").load(tiny_package)
    assert "quantize" in error.value.remedy


def test_both_are_the_same_from_outside(tiny_package):
    engine, reference = (choose_executor(name).load(tiny_package) for name in ("engine", "reference"))
    assert engine.logits_scale == reference.logits_scale
    one, other = engine.session(5), reference.session(5)
    for tokens in ([1, 2, 3], [4]):
        assert (one.run(tokens, only_last=True) == other.run(tokens, only_last=True)).all()
    for session in (one, other):
        with pytest.raises(UsageError, match="leave the vocabulary"):
            session.run([260])
