from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilequant.solvers.objective import relative_error, squared_error, top_divergence

SEEDS = st.integers(0, 2**32 - 1)
TOKENS = 12


def logits(seed):
    student, teacher = torch.randn(2, 5, TOKENS, generator=torch.Generator().manual_seed(seed)).unbind()
    return 2 * student, 2 * teacher


def divergences(student, teacher, k):
    """KL as the objective sees it, and the whole one."""
    wanted, found = teacher.log_softmax(-1), student.log_softmax(-1)
    return top_divergence(student, *wanted.topk(k, dim=-1)), (wanted.exp() * (wanted - found)).sum(-1).mean()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, k=st.integers(1, TOKENS))
def test_it_is_never_more_than_the_whole_divergence_and_never_negative(seed, k):
    top, whole = divergences(*logits(seed), k)
    assert -1e-5 <= top <= whole + 1e-5


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_with_all_tokens_but_one_it_is_the_whole_divergence(seed):
    top, whole = divergences(*logits(seed), TOKENS - 1)
    torch.testing.assert_close(top, whole, rtol=1e-3, atol=3e-5)


def test_a_common_factor_on_the_rest_costs_nothing():
    _, teacher = logits(0)
    tokens = teacher.topk(3, dim=-1).indices
    student = teacher.double().log_softmax(-1).exp()
    outside = torch.ones_like(student).scatter(-1, tokens, 0.0).bool()
    student = torch.where(outside, student * 0.5, student).log()
    found, whole = divergences(student.float(), teacher, 3)
    torch.testing.assert_close(found, whole, rtol=1e-3, atol=1e-5)
    assert whole > 0.01


@given(seed=SEEDS, shift=st.floats(-5, 5))
def test_it_is_zero_when_both_agree(seed, shift):
    _, teacher = logits(seed)
    top, _ = divergences(teacher + shift, teacher, 4)
    assert abs(top.item()) < 1e-5


def test_gradients_lead_to_the_teacher():
    student, teacher = logits(3)
    student.requires_grad_()
    top, tokens = teacher.log_softmax(-1).topk(4, dim=-1)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(top_divergence(student, top, tokens), student)
        student = (student - 5 * gradient).detach().requires_grad_()
    assert top_divergence(student, top, tokens) < 1e-3


def test_confident_teachers_give_numbers():
    teacher = torch.tensor([[50.0, 0.0, -50.0]])
    student = torch.tensor([[-50.0, 0.0, 50.0]], requires_grad=True)
    found = top_divergence(student, *teacher.log_softmax(-1).topk(2, dim=-1))
    found.backward()
    assert found.item() == pytest.approx(100.0, rel=1e-3)
    assert student.grad.isfinite().all()


@given(seed=SEEDS, factor=st.floats(1e-3, 1e3))
def test_relative_error_does_not_depend_on_magnitude(seed, factor):
    found, wanted = logits(seed)
    by_token = torch.tensor([1.0, 2.0, 100.0, 1e-2, factor])[:, None]
    torch.testing.assert_close(relative_error(found * by_token, wanted * by_token), relative_error(found, wanted))
    assert relative_error(wanted, wanted) == 0
    assert relative_error(torch.zeros_like(wanted), wanted) == pytest.approx(1.0)


def test_errors_of_nothing_are_numbers():
    nothing = torch.zeros(2, 3)
    assert relative_error(nothing, nothing) == 0
    assert squared_error(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0])) == 2
