from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mobilequant.errors import ResourceError
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.quantized import QuantizedModel, fake_quantize
from mobilequant.models.tiny import CONFIGS
from mobilequant.numerics.qtype import INT16
from mobilequant.solvers.diagnosis import first_broken
from moved_student import PREFIX, WINDOWS, quantized, student_of

MODES = ("codes", "nearest", "rounding")


def as_quantized(student, state):
    """What the student leaves, as the methods hand it on."""
    found = student.finished(state.model)
    weights, activations = {**state.weights, **found.weights}, {**state.activations, **found.activations}
    model = state.model.with_tensors(found.tensors)
    return QuantizedModel(model, state.scheme, weights, activations, carried(student, model))


def carried(student, model):
    """The prefix as the transforms rewrite it: equal to the one that is made anew but for the last bits."""
    keys, values = list(student.prefix.keys), list(student.prefix.values)
    for transform in student.transforms:
        for i, pair in enumerate(zip(keys, values, strict=True)):
            keys[i], values[i] = transform.rewrite_cache(*pair, f"layers.{i}")
    fresh = compute_prefix(model, PREFIX)
    for each, other in zip((*keys, *values), (*fresh.keys, *fresh.values), strict=True):
        torch.testing.assert_close(each, other, rtol=1e-3, atol=1e-4)
    return replace(student.prefix, keys=tuple(keys), values=tuple(values))


def narrow_tap(quantized_model):
    """The simulation's tap without 16-bit points, which no student rounds."""
    narrow = {name: each for name, each in quantized_model.activations.items() if each.qtype != INT16}
    return lambda name, value: fake_quantize(value, narrow[name]) if name in narrow else value


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_what_it_leaves_computes_what_it_computed(family, mode):
    student = student_of(family, mode)
    left = as_quantized(student, quantized(family))
    found = student.head(student.body(WINDOWS))
    wanted = forward(left.simulated(), WINDOWS, tap=narrow_tap(left), prefix=left.simulated_prefix())
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    start = forward(student.model, WINDOWS, prefix=student.prefix)
    assert (found - start).abs().mean() > 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_gradients_reach_every_kind_of_leaf_and_nothing_is_named_twice(mode):
    student = student_of("llama", mode)
    leaves = student.parameters(student.parts())
    assert len({id(leaf) for leaf in leaves.values()}) == len(leaves)
    student.head(student.body(WINDOWS)).square().mean().backward()
    dead = {name for name, leaf in leaves.items() if leaf.grad is None or not (leaf.grad != 0).any()}
    kinds = {name.rsplit(".", 1)[1] for name in leaves.keys() - dead}
    assert kinds == {name.rsplit(".", 1)[1] for name in leaves}
    # A zero point has a gradient only where something is clipped, one shared scale of a lone reader none.
    assert {name.rsplit(".", 1)[1] for name in dead} <= {"zero_point"}


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_computing_blocks_twice_changes_nothing(family):
    gradients = []
    for recompute in (False, True):
        student = student_of(family, "rounding", recompute)
        student.head(student.body(WINDOWS)).square().mean().backward()
        gradients.append({name: leaf.grad for name, leaf in student.parameters(student.parts()).items()})
    for name, gradient in gradients[0].items():
        assert gradient is gradients[1][name] is None or torch.equal(gradient, gradients[1][name]), name


class Full:
    """Ranges behind which memory runs out when a point is reached for the ``count``-th time."""

    def __init__(self, ranges, name, count):
        self.ranges, self.name, self.left = ranges, name, count

    def tap(self, part):
        inner = self.ranges.tap(part)

        def tapped(name, value):
            self.left -= name == self.name
            if name == self.name and self.left == 0:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return inner(name, value)

        return tapped


@pytest.mark.parametrize(
    ("point", "count", "where"), [("layers.1.up", 1, "layers.1"), ("layers.1.up", 2, "layers.1"), ("logits", 1, "head")]
)
def test_memory_that_does_not_suffice_is_told_with_the_block(point, count, where):
    """The second time a block is computed is in the backward pass."""
    student = student_of("llama", "codes", recompute=True)
    student = replace(student, ranges=Full(student.ranges, point, count))
    with pytest.raises(ResourceError, match=f"not enough memory for the forward pass of {where}") as caught:
        student.head(student.body(WINDOWS)).sum().backward()
    assert "batch" in caught.value.remedy


@pytest.mark.parametrize("name", ["layers.1.up.row_scale", "layers.0.log_scale"])
def test_the_first_broken_leaf_is_named(name):
    student = student_of("llama", "codes")
    assert first_broken(student, WINDOWS) == ""
    with torch.no_grad():
        student.parameters(student.parts())[name].view(-1)[0] = torch.nan
    assert first_broken(student, WINDOWS) == name


def test_the_first_broken_activation_is_named():
    student = student_of("llama", "codes")
    bias = {"layers.1.up.bias": torch.full((80,), torch.inf)}
    student = replace(student, model=student.model.with_tensors(bias))
    assert first_broken(student, WINDOWS) == "layers.1.up"
