"""Compiled training on a CPU, where it is never compiled otherwise.

Once, as on a GPU, blocks go through ``inductor`` and a compiler of C++, which takes half a minute; the families are
traced, differentiated, decomposed and partitioned the same way and then run operation by operation (``PARTITIONED``).
Sums are taken in another order than without a compiler, so a value next to an edge may get another code: with these
few values none does, and all gradients agree to a thousandth of the largest of their leaf.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.utils import counters

from mobilequant.models import decoder
from mobilequant.models.quantized import fake_quantize
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import UINT8
from mobilequant.solvers import compiler as compiler_module
from mobilequant.solvers.compiled_block import compiled_body
from mobilequant.solvers.compiler import PAYS_FROM, Compiler, compiler_for
from mobilequant.solvers.end_to_end import distillation
from mobilequant.solvers.traced_fake_quantize import traced_fake_quantize
from moved_student import WINDOWS, quantized, student_of

PARTITIONED = "aot_eager_decomp_partition"


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()
    counters.clear()


def gradients(family, compiler, *, recompute=False):
    """The loss of a student against its float model, and the gradients of all leaves by name."""
    student, state = student_of(family, "rounding", recompute), quantized(family)
    student = replace(student, compiler=compiler)
    loss = distillation(student, state.model, state.prefix, hidden_weight=0.1)(WINDOWS)
    return loss.detach(), gradients_of(loss, student)


def gradients_of(loss, student):
    loss.backward()
    return {name: leaf.grad for name, leaf in student.parameters(student.parts()).items()}


def assert_same(found, wanted):
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=0)
    for name, gradient in wanted[1].items():
        other = found[1][name]
        if gradient is None or not gradient.any():
            assert other is None or not other.any(), name  # a compiled block gives zeros for what it does not reach
        else:
            torch.testing.assert_close(other, gradient, rtol=1e-3, atol=1e-3 * gradient.abs().max().item(), msg=name)


@pytest.mark.parametrize(
    ("family", "kinds"),
    [("qwen2", 1), ("gemma3_text", 2), ("gpt_neox", 1)],  # Gemma has windows that slide, and none
)
def test_loss_and_all_gradients_are_those_of_single_operations(family, kinds):
    compiler = Compiler("cpu", PARTITIONED)
    assert_same(gradients(family, compiler), gradients(family, Compiler()))
    # Blocks of the student and of the teacher, however many there are, and the student's head.
    assert counters["stats"]["unique_graphs"] == compiler.num_functions == 2 * kinds + 1


def test_blocks_through_a_compiler_of_machine_code():
    found = []
    for compiler in (Compiler("cpu"), Compiler()):
        student = replace(student_of("llama", "rounding"), compiler=compiler)
        loss = student.body(WINDOWS).square().mean()
        found.append((loss.detach(), gradients_of(loss, student)))
    assert_same(*found)
    assert counters["stats"]["unique_graphs"] == 1


def test_blocks_can_be_computed_twice():
    compiler = Compiler("cpu", PARTITIONED)
    assert_same(gradients("llama", compiler, recompute=True), gradients("llama", Compiler()))
    assert counters["stats"]["unique_graphs"] == compiler.num_functions == 3


@torch.no_grad()
def test_another_shape_is_another_function_and_a_known_one_is_none():
    compiler = Compiler("cpu", PARTITIONED)
    for tokens in (WINDOWS, WINDOWS[:1], WINDOWS):
        compiled_body(compiler, quantized("llama").model, tokens, None)
    assert counters["stats"]["unique_graphs"] == compiler.num_functions == 2


@torch.no_grad()
def test_looks_at_a_student_compile_nothing():
    student = replace(student_of("llama", "codes"), compiler=Compiler("cpu", PARTITIONED))
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
        found = gradients("llama", Compiler("cpu"))
    assert_same(found, gradients("llama", Compiler()))
    assert [record.getMessage() for record in caplog.records] == [
        "training goes on without a compiler: RuntimeError: no compiler here"
    ]
    assert failing.calls == 3  # blocks of teacher and student, and the head; none of them a second time


def test_what_has_failed_stays_without_a_compiler_where_blocks_are_computed_twice(monkeypatch):
    """A block that was compiled in one direction and not in the other would not find again what it had kept."""
    monkeypatch.setattr(torch, "compile", lambda compute, **options: Failing("forward")(compute))
    found = gradients("llama", Compiler("cpu"), recompute=True)
    assert_same(found, gradients("llama", Compiler()))


def test_the_switch_of_torch_turns_it_off(caplog):
    compiler = Compiler("cpu")
    with torch._dynamo.config.patch(disable=True):
        found = gradients("llama", compiler)
    assert_same(found, gradients("llama", Compiler()))
    assert compiler.num_functions == 0 and not caplog.records


@pytest.mark.parametrize(("steps", "compiled"), [(PAYS_FROM - 1, False), (PAYS_FROM, True)])
def test_a_training_is_compiled_where_its_steps_win_back_what_that_takes(steps, compiled):
    on_gpu = SimpleNamespace(device=torch.device("cuda"))
    assert compiler_for(steps).serves(on_gpu) == compiled
    assert not compiler_for(steps).serves(WINDOWS)


def test_too_little_memory_is_no_reason_to_go_on(monkeypatch):
    def full(*given):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(torch, "compile", lambda compute, **options: full)
    with pytest.raises(torch.OutOfMemoryError):
        compiled_body(Compiler("cpu"), quantized("llama").model, WINDOWS, None)


def test_the_teacher_computes_what_it_did():
    model, prefix = quantized("gemma2").model, quantized("gemma2").prefix
    with torch.no_grad():
        found = compiled_body(Compiler("cpu", PARTITIONED), model, WINDOWS, prefix)
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

    compiled = torch.compile(compute, fullgraph=True, dynamic=False, options=compiler_module._options("cpu"))
    found = compiled(value, grid)
    assert torch.equal(found, fake_quantize(value, QParams(scale.item(), 100, UINT8)))
