"""The interpreter as a whole: any split of a text gives the same integers, and nothing leaks between runs."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilequant.arch import registry
from mobilequant.errors import UsageError
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.ops.matrix import exact_dtype

FAMILIES = [spec.model_types[0] for spec in registry.SPECS]
SCHEME = "static_w4g16_a8_kv8"
TOKENS = torch.randint(0, 96, (23,), generator=torch.Generator().manual_seed(3))
BATCH = torch.randint(0, 96, (3, 23), generator=torch.Generator().manual_seed(4))


def whole(interpreter, tokens):
    return interpreter.run(tokens, interpreter.state())


def in_parts(interpreter, tokens, lengths):
    state = interpreter.state()
    return torch.cat([interpreter.run(part, state) for part in tokens.split(lengths, dim=-1)], dim=-2)


def tensors(interpreter, tokens):
    seen = {}
    interpreter.run(tokens, interpreter.state(), lambda spec, codes: seen.update({spec.name: codes}))
    return seen


@pytest.mark.parametrize("prefix", [(), (1, 5)])
@pytest.mark.parametrize("name", FAMILIES)
def test_prefill_and_decode_give_the_same_integers(name, prefix, tiny_graph):
    interpreter = Interpreter(tiny_graph(name, SCHEME, prefix=prefix))
    assert torch.equal(whole(interpreter, TOKENS), in_parts(interpreter, TOKENS, [1] * len(TOKENS)))


@pytest.mark.parametrize("name", ["mistral", "opt"])
@settings(max_examples=10, deadline=None)
@given(cuts=st.sets(st.integers(1, len(TOKENS) - 1)))
def test_so_does_every_split(name, cuts, tiny_graph):
    interpreter = Interpreter(tiny_graph(name, SCHEME))
    bounds = [0, *sorted(cuts), len(TOKENS)]
    lengths = [end - start for start, end in itertools.pairwise(bounds)]
    assert torch.equal(whole(interpreter, TOKENS), in_parts(interpreter, TOKENS, lengths))


@pytest.mark.parametrize("prefix", [(), (1, 5)])
@pytest.mark.parametrize("name", [*FAMILIES, "window, gated gelu", "one key head, gated relu"])
def test_a_batch_gives_each_sequence_the_integers_that_it_has_alone(name, prefix, tiny_graph):
    """At every tensor; and in every call where a state goes on."""
    interpreter = Interpreter(tiny_graph(name, SCHEME, prefix=prefix))
    alone = [tensors(interpreter, tokens) for tokens in BATCH]
    together = tensors(interpreter, BATCH)
    assert together.keys() == alone[0].keys()
    for tensor, codes in together.items():
        assert torch.equal(codes, torch.stack([each[tensor] for each in alone])), tensor
    assert torch.equal(in_parts(interpreter, BATCH, [1, 1, 9, 12]), together[interpreter.graph.output])


def test_a_batch_goes_on_from_one_sequence_but_not_from_another_batch(tiny_graph):
    interpreter = Interpreter(tiny_graph("mistral", SCHEME))
    state = interpreter.state()
    interpreter.run(TOKENS, state)
    expected = [whole(interpreter, torch.cat((TOKENS, tokens)))[len(TOKENS) :] for tokens in BATCH]
    assert torch.equal(interpreter.run(BATCH[:, :9], state), torch.stack(expected)[:, :9])
    for other in (BATCH[:2, 9:], BATCH[0, 9:]):
        with pytest.raises(UsageError, match="batch"):
            interpreter.run(other, state)
    assert torch.equal(interpreter.run(BATCH[:, 9:], state), torch.stack(expected)[:, 9:])


@pytest.mark.parametrize("name", FAMILIES)
def test_later_tokens_change_nothing_before_them(name, tiny_graph):
    interpreter = Interpreter(tiny_graph(name, SCHEME))
    assert torch.equal(whole(interpreter, TOKENS)[:9], whole(interpreter, TOKENS[:9]))


def test_states_share_nothing(tiny_graph):
    interpreter = Interpreter(tiny_graph("llama", SCHEME))
    expected = whole(interpreter, TOKENS)
    first, second = interpreter.state(), interpreter.state()
    interpreter.run(TOKENS.flip(0), first)
    assert torch.equal(interpreter.run(TOKENS, second), expected)
    assert torch.equal(whole(interpreter, TOKENS), expected)
    assert (first.position, second.position, interpreter.state().position) == (25, 25, 2)
    assert [len(keys) for keys in first.keys] == [25, 25]


def test_a_run_leaves_the_graph_as_it_was(tiny_graph):
    graph = tiny_graph("opt", SCHEME)
    before = {name: constant.array.copy() for name, constant in graph.constants.items()}
    whole(Interpreter(graph), TOKENS)
    assert all(np.array_equal(before[name], constant.array) for name, constant in graph.constants.items())


@pytest.mark.parametrize(("tokens", "message"), [([], "no token"), ([3, 96], "vocabulary"), ([-1], "vocabulary")])
def test_tokens_that_cannot_be_run(tokens, message, tiny_graph):
    interpreter = Interpreter(tiny_graph("llama", SCHEME))
    state = interpreter.state()
    with pytest.raises(UsageError, match=message):
        interpreter.run(torch.tensor(tokens, dtype=torch.int64), state)
    assert torch.equal(interpreter.run(TOKENS, state), whole(interpreter, TOKENS))


def test_the_context_can_be_filled_but_not_left(tiny_graph):
    interpreter = Interpreter(tiny_graph("gpt2", SCHEME))
    state = interpreter.state()
    room = interpreter.graph.context - interpreter.graph.num_prefix
    with pytest.raises(UsageError, match="context"):
        interpreter.run(torch.zeros(room + 1, dtype=torch.int64), state)
    interpreter.run(torch.zeros(room, dtype=torch.int64), state)
    with pytest.raises(UsageError, match="context"):
        interpreter.run(torch.zeros(1, dtype=torch.int64), state)


def test_a_sliding_window_forgets_all_but_the_prefix(tiny_graph):
    """Two layers with a window of 6 look back 10 tokens at most."""
    graph = tiny_graph("mistral", SCHEME)
    interpreter = Interpreter(graph)
    other = TOKENS.clone()
    other[:5] = (other[:5] + 40) % 96
    first, second = whole(interpreter, TOKENS), whole(interpreter, other)
    assert torch.equal(first[5 + 10 :], second[5 + 10 :])
    assert not torch.equal(first[5 + 4 : 5 + 10], second[5 + 4 : 5 + 10])
    shifted = dict(graph.constants)
    for cache in graph.caches:
        shifted[cache.values] = replace(shifted[cache.values], array=shifted[cache.values].array ^ 0x40)
    third = whole(Interpreter(replace(graph, constants=shifted)), TOKENS)
    assert (first != third).any(1).all()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("tokens", [TOKENS, torch.zeros(20, dtype=torch.int64), torch.full((20,), 95)], ids=range(3))
def test_the_tap_sees_every_tensor_within_its_limits(name, tokens, tiny_graph):
    graph = tiny_graph(name, SCHEME, wide=("product", "act", "probs"))
    interpreter, seen = Interpreter(graph), []

    def look(spec, codes):
        seen.append(spec.name)
        assert codes.dtype == {"uint8": torch.uint8, "int16": torch.int16}[spec.dtype]
        assert spec.qmin <= codes.min() and codes.max() <= spec.qmax, spec.name
        rows = codes.shape[-1] if codes.dim() == 2 else codes.shape[0]
        assert rows == spec.channels

    interpreter.run(tokens, interpreter.state(), look)
    assert seen == [op.output for op in graph.ops]


@pytest.mark.parametrize("extreme", [-1, 1])
@pytest.mark.parametrize("name", ["llama", "opt", "gemma3_text"])
def test_weights_at_their_limits_saturate_and_do_not_wrap(name, extreme, tiny_graph):
    """All codes ±127: accumulators are as large as they get, and what leaves a tensor's limits stays at them."""
    graph = tiny_graph(name, "static_w8c_a8_kv8")
    limits = {
        key: replace(c, array=np.where(c.array < 0, -extreme, extreme).astype(np.int8) * 127)
        if key.endswith("up.codes")
        else c
        for key, c in graph.constants.items()
    }
    bounds = {"accumulator_bound": (1 << 31) - 1}
    ops = tuple(replace(op, attributes=bounds) if op.kind == "linear" else op for op in graph.ops)
    interpreter, reached = Interpreter(replace(graph, constants=limits, ops=ops)), {}
    interpreter.run(TOKENS, interpreter.state(), lambda spec, codes: reached.update({spec.name: codes}))
    up, spec = reached["layers.0.up"], graph.tensors["layers.0.up"]
    assert int(up.min()) == spec.qmin or int(up.max()) == spec.qmax
    assert torch.equal(whole(interpreter, TOKENS), in_parts(interpreter, TOKENS, [7, 16]))


def test_logits_are_the_integers_times_their_scale(tiny_graph):
    interpreter = Interpreter(tiny_graph("gemma2", SCHEME))
    codes = whole(interpreter, TOKENS)
    assert codes.dtype == torch.int16 and codes.shape == (23, 96)
    assert torch.equal(interpreter.logits(TOKENS), codes.float() * interpreter.logits_scale)


@pytest.mark.parametrize("name", ["llama", "gpt_neox"])
def test_the_number_of_threads_and_the_precision_of_floats_change_nothing(name, tiny_graph):
    interpreter = Interpreter(tiny_graph(name, SCHEME))
    expected = whole(interpreter, TOKENS)
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        torch.set_num_threads(2)
        assert torch.equal(whole(interpreter, TOKENS), expected)
        torch.set_float32_matmul_precision("medium")  # lets some processors multiply in bfloat16
        assert exact_dtype(1) == torch.float64
        assert torch.equal(whole(interpreter, TOKENS), expected)
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def test_an_operation_may_read_one_tensor_twice_and_the_output_may_be_read(tiny_graph):
    graph = tiny_graph("llama", SCHEME)
    product = next(op for op in graph.ops if op.output == "layers.1.product")
    squared = replace(product, inputs=("layers.1.up", "layers.1.up"))
    again = replace(next(op for op in graph.ops if op.output == "layers.1.attn_residual"),
                    inputs=("logits", "logits"), output="twice")  # fmt: skip
    ops = (*(squared if op is product else op for op in graph.ops), again)
    spec = replace(graph.tensors["layers.1.attn_residual"], name="twice", channels=96)
    changed = replace(graph, ops=ops, tensors={**graph.tensors, "twice": spec})
    assert whole(Interpreter(changed), TOKENS).shape == (23, 96)
