"""What would overflow becomes coarser, and nothing else changes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.integer.bound import INT32_MAX
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.lower import lower
from mobilequant.integer.provable import provable, with_room_for_bias
from mobilequant.jobs.executor import fake_quant_executor
from mobilequant.numerics.qtype import INT4, INT8
from mobilequant.numerics.weight import QuantizedWeight

TOKENS = torch.tensor([4, 90, 4, 17])
SCHEMES = ["static_w8c_a8_kv8", "static_w4c_a8_kv8", "static_w4g16_a8_kv8"]


def with_smaller_rows(quantized, name, factor, rows):
    """The scale of some rows of a matrix times a factor."""
    scale = quantized.weights[name].scale.clone()
    scale[rows] *= factor
    return replace(quantized, weights={**quantized.weights, name: replace(quantized.weights[name], scale=scale)})


def test_a_16_bit_input_is_narrowed_as_far_as_needed(tiny_quantized):
    quantized = tiny_quantized("llama", "static_w4g16_a8_kv8", wide=("product",))
    assert quantized.activations["layers.0.product"].qtype.qmax < 32767
    down = next(op for op in lower(quantized).ops if op.output == "layers.0.down")
    assert INT32_MAX * 0.9 < down.attributes["accumulator_bound"] <= INT32_MAX


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("factor", [1e-6, 1e-12, 1e-37])
@pytest.mark.parametrize(("matrix", "wide"), [("layers.0.q", ()), ("layers.0.down", ("act",))])
def test_nearly_dead_rows_keep_their_bias(scheme, factor, matrix, wide, tiny_quantized):
    dying = with_smaller_rows(tiny_quantized("opt", scheme, wide=wide), matrix, factor, [0, 3])
    quantized = provable(dying)
    graph = lower(quantized)
    source = next(op.inputs[0] for op in graph.ops if op.output == matrix)
    step = quantized.weights[matrix].scale.double() * graph.tensors[source].scale
    stored = torch.from_numpy(graph.constants[f"{matrix}.bias"].array) * step
    assert torch.allclose(stored, quantized.model.bias(matrix).double(), rtol=1e-6, atol=float(step.median()))
    simulated, integer = fake_quant_executor(quantized, None)(TOKENS[None])[0], Interpreter(graph).logits(TOKENS)
    assert (simulated - integer).abs().mean() < 0.05 * simulated.std()


def test_one_dead_row_does_not_cost_the_input_its_bits(tiny_quantized):
    quantized = tiny_quantized("opt", wide=("act",))
    changed = provable(with_smaller_rows(quantized, "layers.0.down", 1e-12, [0]))
    assert changed.activations == quantized.activations
    before, after = quantized.weights["layers.0.down"], changed.weights["layers.0.down"]
    assert torch.equal(before.codes[1:], after.codes[1:])
    assert torch.equal(before.scale[1:], after.scale[1:])


@given(st.sampled_from([1, 4]), st.sampled_from([INT4, INT8]), st.floats(1e-12, 1.0), st.integers(0, 9))
def test_a_weight_moves_by_half_a_step_at_most(groups, qtype, factor, seed):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(qtype.qmin, qtype.qmax + 1, (5, 8), generator=generator, dtype=torch.int8)
    multiplier = torch.randint(1, 256, (5, groups), generator=generator).to(torch.uint8) if groups > 1 else None
    weight = QuantizedWeight(codes, torch.full((5,), 1e-9 * factor), qtype, multiplier)
    bias = torch.tensor([0.0, 1e-3, 1.0, -30.0, 1e9])
    coarser = with_room_for_bias(weight, bias, 0.01)
    assert bool((bias.abs() <= 1.0001 * 2**29 * coarser.scale * 0.01).all())
    assert qtype.qmin <= coarser.codes.min() and coarser.codes.max() <= qtype.qmax
    moved = (weight.dequantize() - coarser.dequantize()).abs()
    assert bool((moved <= 0.5001 * coarser.element_scale()).all())
    fits = bias.abs() < 2**29 * weight.scale * 0.01
    assert torch.equal(coarser.codes[fits], weight.codes[fits])


def test_a_tied_head_is_left_alone(tiny_quantized):
    quantized = tiny_quantized("gpt2")
    tensors = {**quantized.model.tensors, "lm_head.bias": torch.full((96,), 1e9)}
    changed = provable(replace(quantized, model=replace(quantized.model, tensors=tensors)))
    assert changed.weights["lm_head"] is changed.weights["embed"]
