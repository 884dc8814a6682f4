"""Compiled blocks on a CPU, where training never compiles any.

With ``inductor``, as on a GPU, blocks go through a compiler of C++, half a minute for one kind; the other families are
traced, differentiated, decomposed and partitioned the same way and then run operation by operation (``PARTITIONED``).
Sums are taken in another order than without a compiler, so a value next to an edge may get another code: with these
few values none does, and all gradients agree to a thousandth of the largest of their leaf.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from torch._dynamo.utils import counters

from mobilequant.models import decoder
from mobilequant.models.quantized import fake_quantize
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import UINT8
from mobilequant.solvers import compiled_block
from mobilequant.solvers.compiled_block import CompiledBlocks
from mobilequant.solvers.end_to_end import distillation
from mobilequant.solvers.traced_fake_quantize import traced_fake_quantize
from moved_student import WINDOWS, quantized, student_of

PARTITIONED = "aot_eager_decomp_partition"


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()
    counters.clear()


def gradients(family, compiled, *, recompute=False):
    """The loss of a student against its float model, and the gradients of all leaves by name."""
    student, state = student_of(family, "rounding", recompute), quantized(family)
    student = replace(student, compiled=compiled)
    loss = distillation(student, state.model, state.prefix, hidden_weight=0.1)(WINDOWS)
    loss.backward()
    return loss.detach(), {name: leaf.grad for name, leaf in student.parameters(student.parts()).items()}


def assert_same(found, wanted):
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=0)
    for name, gradient in wanted[1].items():
        other = found[1][name]
        if gradient is None or not gradient.any():
            assert other is None or not other.any(), name  # a compiled block gives zeros for what it does not reach
        else:
            torch.testing.assert_close(other, gradient, rtol=1e-3, atol=1e-3 * gradient.abs().max().item(), msg=name)


@pytest.mark.parametrize(
    ("family", "backend", "kinds"),
    [
        ("llama", "inductor", 1),
        ("qwen2", PARTITIONED, 1),
        ("gemma3_text", PARTITIONED, 2),  # windows that slide, and none
        ("gpt_neox", PARTITIONED, 1),
    ],
)
def test_loss_and_all_gradients_are_those_of_single_operations(family, backend, kinds):
    compiled = CompiledBlocks("cpu", backend)
    assert_same(gradients(family, compiled), gradients(family, CompiledBlocks()))
    # The student's and the teacher's, however many layers there are.
    assert counters["stats"]["unique_graphs"] == compiled.num_functions == 2 * kinds


def test_blocks_can_be_computed_twice():
    found = gradients("llama", CompiledBlocks("cpu", PARTITIONED), recompute=True)
    assert_same(found, gradients("llama", CompiledBlocks()))


@torch.no_grad()
def test_another_shape_is_another_function_and_a_known_one_is_none():
    compiled = CompiledBlocks("cpu", PARTITIONED)
    for tokens in (WINDOWS, WINDOWS[:1], WINDOWS):
        compiled.body(quantized("llama").model, tokens)
    assert counters["stats"]["unique_graphs"] == compiled.num_functions == 2


@torch.no_grad()
def test_looks_at_a_student_compile_nothing():
    student = replace(student_of("llama", "codes"), compiled=CompiledBlocks("cpu", PARTITIONED))
    student.head(student.body(WINDOWS))
    assert not counters["stats"]


class Failing:
    """A backend that fails in one direction."""

    def __init__(self, direction):
        self.direction, self.calls = direction, 0

    def __call__(self, compute):
        self.calls += 1
        return self.of_both if self.direction == "forward" else self.of_gradients(compute)

    def of_both(self, *given):
        raise RuntimeError("no compiler here")

    def of_gradients(self, compute):
        def computed(*given):
            result = compute(*given)
            if result.requires_grad:
                result.register_hook(self.of_both)
            return result

        return computed


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_without_a_compiler_training_goes_on_with_one_warning(direction, monkeypatch, caplog):
    failing = Failing(direction)
    monkeypatch.setattr(torch, "compile", lambda compute, **options: failing(compute))
    with caplog.at_level(logging.WARNING, logger="mobilequant"):
        found = gradients("llama", CompiledBlocks("cpu"))
    assert_same(found, gradients("llama", CompiledBlocks()))
    assert [record.getMessage() for record in caplog.records] == [
        "blocks are not compiled, training goes on without: no compiler here"
    ]
    assert failing.calls <= 2  # of the teacher, where that can be compiled, and of the student


def test_too_little_memory_is_no_reason_to_go_on(monkeypatch):
    def full(*given):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(torch, "compile", lambda compute, **options: full)
    with pytest.raises(torch.OutOfMemoryError):
        CompiledBlocks("cpu").body(quantized("llama").model, WINDOWS)


def test_the_teacher_computes_what_it_did():
    model, prefix = quantized("gemma2").model, quantized("gemma2").prefix
    with torch.no_grad():
        found = CompiledBlocks("cpu", PARTITIONED).body(model, WINDOWS, prefix=prefix)
        torch.testing.assert_close(found, decoder.body(model, WINDOWS, prefix=prefix), rtol=0, atol=1e-5)


def test_division_is_exact_at_every_edge():
    """Values that lie where codes change, and next to it: a product with the reciprocal would move many of them."""
    scale, grid = torch.tensor(0.0371), torch.tensor([0.0371, 100.0])
    edges = (torch.arange(-120, 160) + 0.5) * scale
    value = torch.cat((edges, edges.nextafter(edges + 1), edges.nextafter(edges - 1)))
    moved = ((value * (1 / scale) + 0.5).floor() != (value / scale + 0.5).floor()).sum()
    assert moved > 0

    def compute(value, grid):
        return traced_fake_quantize(2 * value / 2, grid, UINT8.qmin, UINT8.qmax)

    compiled = torch.compile(compute, fullgraph=True, dynamic=False, options=compiled_block._options("cpu"))
    found = compiled(value, grid)
    assert torch.equal(found, fake_quantize(value, QParams(scale.item(), 100, UINT8)))
