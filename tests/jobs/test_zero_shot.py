import math

import pytest
import torch

from mobilequant.data.task import Request
from mobilequant.jobs.comparison import Comparison
from mobilequant.jobs.zero_shot import zero_shot


def prefers(letter):
    """A byte model that expects ``letter`` everywhere."""

    def run(tokens):
        logits = torch.zeros(*tokens.shape, 256)
        logits[..., ord(letter)] = 5.0
        return logits

    return run


def questions(labels):
    return [Request(n, ("q", "q"), ("b", "c"), label) for n, label in enumerate(labels)]


def run(tasks, **executors):
    return zero_shot(Comparison(executors, lambda text: list(text.encode()), None, 1), tasks, documents=100)


def test_the_change_from_float_is_taken_in_pairs():
    found = run({"piqa": questions([0, 0, 0, 1])}, float=prefers("b"), integer=prefers("c"))["piqa"]
    assert (found["float"]["acc"], found["integer"]["acc"]) == (0.75, 0.25)
    assert (found["float"]["acc_change"], found["float"]["acc_change_se"]) == (0.0, 0.0)
    assert found["integer"]["acc_change"] == -0.5
    assert found["integer"]["acc_change_se"] == pytest.approx(0.5)  # of −1 −1 −1 +1: deviation 1, over √4
    assert found["integer"]["acc_se"] == pytest.approx(math.sqrt(0.25 * 0.75 / 4))


def test_equal_answers_differ_for_certain_by_nothing():
    found = run({"piqa": questions([0, 1, 1])}, float=prefers("b"), integer=prefers("b"))["piqa"]["integer"]
    assert (found["acc_change"], found["acc_change_se"]) == (0.0, 0.0)
    assert found["acc_se"] > 0


def test_the_average_weighs_tasks_not_documents():
    tasks = {"piqa": questions([0]), "hellaswag": questions([1, 1, 0, 0]), "lambada": questions([0, 0])}
    found = run(tasks, float=prefers("b"), integer=prefers("c"))
    assert found["average"]["float"]["acc"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert found["average"]["float"]["acc_se"] == pytest.approx(0.25 / 3)
    assert found["average"]["integer"]["acc_change"] == pytest.approx((-1 + 0 - 1) / 3)
    assert found["average"]["integer"]["docs"] == 7
    low, high = found["average"]["float"]["acc_low"], found["average"]["float"]["acc_high"]
    assert 0 <= low < found["average"]["float"]["acc"] < high <= 1


def test_one_task_has_no_average():
    assert run({"piqa": questions([0])}, float=prefers("b")).keys() == {"piqa"}
