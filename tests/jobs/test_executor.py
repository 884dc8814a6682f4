"""Batches of real models: what stands beside a sequence or fills it up at its end changes nothing."""

from functools import cache

import pytest
import torch

from mobilequant.evaluate.likelihood import Question, answers, likelihoods
from mobilequant.evaluate.score import score
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.lower import lower
from mobilequant.integer.provable import provable
from mobilequant.jobs.executor import dynamic_executor, executors, integer_executor
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.progress import silent
from mobilequant.pipeline.scheme import parse_scheme

BOS = 1
FAMILIES = ["mistral", "opt", "gemma3_text"]
PREFIXES = [(), (5,), (BOS, 5)]
# The last bit of a sum may turn a value that is then rounded: products of codes lie between two steps exactly.
TOLERANCE = {"float": 1e-5, "float_prefix": 1e-5, "fake_quant": 0.02, "dynamic": 0.02, "integer": 0.0}


@cache
def compared(family, prefix):
    source = tiny_model(family)
    calibration = torch.randint(0, 96, (3, 16), generator=torch.Generator().manual_seed(7))
    methods = [make("ranges", {"estimator": "minmax"}), make("rtn", {})]
    quantized = provable(run_methods(source, parse_scheme("static_w8c_a8_kv8"), methods, calibration, prefix=prefix))
    found = executors(source, quantized, integer_executor(Interpreter(lower(quantized)), BOS), BOS)
    return {**found, "dynamic": dynamic_executor(quantized, BOS)}


def questions(count):
    generator = torch.Generator().manual_seed(5)

    def tokens(most):
        size = int(torch.randint(1, most + 1, (), generator=generator))
        return tuple(torch.randint(0, 96, (size,), generator=generator).tolist())

    return [Question((BOS, *tokens(20)), tokens(6)) for _ in range(count)]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("family", FAMILIES)
def test_likelihoods_of_a_batch_are_those_one_by_one(family, prefix):
    asked = questions(14)
    for name, executor in compared(family, prefix).items():
        alone = [likelihoods(executor, [each])[0] for each in asked]
        together = answers(executor, asked, 130, silent)
        for one, other in zip(alone, together, strict=True):
            assert other.logprob == pytest.approx(one.logprob, rel=TOLERANCE[name], abs=0), name
            assert other.is_greedy == one.is_greedy


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_batches_are_those_of_single_windows(family, prefix):
    windows = torch.randint(0, 96, (5, 12), generator=torch.Generator().manual_seed(3))
    alone, together = (score(compared(family, prefix), windows, bos=BOS, batch_tokens=tokens) for tokens in (1, 2 * 12))
    assert together.keys() == alone.keys()
    for name, scores in together.items():
        assert scores == pytest.approx(alone[name], rel=max(TOLERANCE[name], 1e-5), abs=1e-9), name
    assert together["integer"]["nll"] == alone["integer"]["nll"]
