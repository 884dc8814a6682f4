from dataclasses import replace

import pytest
import torch

from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.decoder import forward
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.divergence import HeldOut, Reference

TOKENS = torch.randint(0, 96, (3, 12), generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def quantized():
    return run_methods(tiny_model("llama"), Scheme(8), [make("ranges", {}), make("rtn", {})], TOKENS, prefix=(1,))


def test_the_divergence_of_logits_is_that_of_their_distributions():
    generator = torch.Generator().manual_seed(1)
    one, other = torch.randn(2, 5, 30, generator=generator)
    log_p, log_q = one.log_softmax(-1), other.log_softmax(-1)
    expected = (log_p.exp() * (log_p - log_q)).sum(-1).mean().item()
    assert Reference.of(one).divergence(other) == pytest.approx(expected, rel=1e-5)
    assert Reference.of(one).divergence(one + 3.0) == pytest.approx(0.0, abs=1e-6)


def test_small_divergences_of_a_large_vocabulary_are_seen():
    generator = torch.Generator().manual_seed(1)
    one = 3 * torch.randn(70, 50_000, generator=generator) - 15
    other = one + 1e-3 * torch.randn(70, 50_000, generator=generator)
    log_p, log_q = one.double().log_softmax(-1), other.double().log_softmax(-1)
    expected = (log_p.exp() * (log_p - log_q)).sum(-1).mean().item()
    assert 1e-7 < expected < 1e-6
    assert Reference.of(one).divergence(one) == 0.0
    assert Reference.of(one).divergence(other) == pytest.approx(expected, abs=3e-7)


def test_a_candidate_is_judged_with_all_activations_and_its_prefix_rounded(quantized):
    float_logits = forward(quantized.model, TOKENS, prefix=quantized.prefix)
    rounded = forward(quantized.model, TOKENS, tap=quantized.tap(), prefix=quantized.simulated_prefix())
    log_p, log_q = float_logits.log_softmax(-1), rounded.log_softmax(-1)
    expected = (log_p.exp() * (log_p - log_q)).sum(-1).mean().item()
    assert HeldOut(quantized, TOKENS).divergence(quantized) == pytest.approx(expected, rel=1e-3)
    assert HeldOut(quantized, TOKENS).divergence(replace(quantized, activations={}, prefix=None)) > 0
