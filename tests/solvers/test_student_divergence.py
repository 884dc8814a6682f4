"""The end of a student: what a batch diverges by, with one head for all windows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from mobilequant.arch import point
from mobilequant.models import decoder
from mobilequant.solvers.compiler import Compiler
from mobilequant.solvers.objective import top_divergence
from moved_student import WINDOWS, quantized, student_of

UNTIED = "mistral"
WINDOW, VOCAB = WINDOWS.shape[1], 96


@dataclass
class Counted:
    """Weights that count how often the head is rounded."""

    weights: object
    calls: int = 0

    def rewrite(self, tensors, part):
        self.calls += part == point.HEAD
        return self.weights.rewrite(tensors, part)

    def parameters(self, part):
        return self.weights.parameters(part)


@torch.no_grad()
def teacher_top(family):
    return decoder.forward(quantized(family).model, WINDOWS).log_softmax(-1).topk(5, dim=-1)


@torch.no_grad()
def residual(student):
    return student.body(WINDOWS)


def of_batch(student, hidden, top, tokens):
    return student.divergence(hidden, top, tokens)


def one_by_one(student, hidden, top, tokens):
    """Each window behind a head of its own."""
    windows = zip(hidden, top, tokens, strict=True)
    return torch.stack([top_divergence(student.head(each[None])[0], *others) for each, *others in windows]).mean()


def gradients(compute, family):
    """The divergence; gradients of the residual and of all leaves of the head."""
    student, (top, tokens) = student_of(family, "rounding"), teacher_top(family)
    hidden = residual(student).requires_grad_()
    found = compute(student, hidden, top, tokens)
    found.backward()
    return found.detach(), {"hidden": hidden} | student.parameters([point.HEAD])


@pytest.mark.parametrize("family", [UNTIED, "gpt_neox", "gemma2"])  # with a matrix of its own, with biases, tied
def test_all_windows_of_a_batch_behind_one_head_are_what_each_is_behind_its_own(family):
    (found, leaves), (wanted, others) = (gradients(each, family) for each in (of_batch, one_by_one))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    for name, leaf in leaves.items():
        gradient, other = leaf.grad, others[name].grad
        assert (gradient is None) == (other is None), name
        if other is not None:
            torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-5 * other.abs().max().item(), msg=name)
    assert family != UNTIED or leaves["lm_head.offset"].grad.any()


@pytest.mark.parametrize("compiler", [Compiler(), Compiler("cpu", "aot_eager_decomp_partition")])
def test_the_head_is_rewritten_once_in_a_step_both_ways(compiler):
    student, (top, tokens) = student_of(UNTIED, "rounding"), teacher_top(UNTIED)
    counted = Counted(student.weights)
    student = replace(student, weights=counted, compiler=compiler)
    student.divergence(residual(student), top, tokens).backward()
    assert counted.calls == 1


def test_no_logits_wait_for_the_backward_pass():
    student, (top, tokens) = student_of(UNTIED, "rounding"), teacher_top(UNTIED)
    hidden, kept = residual(student), []

    def keep(tensor):
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        student.divergence(hidden, top, tokens)
    assert kept and not any(shape[-2:] == (WINDOW, VOCAB) for shape in kept)
