"""Attention alone: heads of all sizes, windows, prefixes, formats, tables, and every way to compute a softmax."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import extreme
from made_graph import LARGEST, Making, factor_near
from mobilequant.integer.ops.softmax import exp2_table
from native_engine import KERNELS, Native, Reference, packaged, require_equal_everywhere

TYPES = st.sampled_from(["uint8", "int16"])
OPERAND = {"zero_point": 128, "qmin": 0, "qmax": 255}
CENTRED = 128 * 128  # the largest product of two operands


@dataclass(frozen=True)
class Case:
    kv_heads: int = 1
    heads_of_key: int = 1
    head_dim: int = 16
    tokens: int = 20
    prefix: int = 0
    window: int = 0
    scores: str = "int16"
    looked_up: str | None = None  # type of what a table makes of the scores
    probabilities: str = "uint8"
    target: str = "uint8"
    flat: bool = False  # all keys are the same: all scores of a row are

    @property
    def heads(self):
        return self.kv_heads * self.heads_of_key


@st.composite
def cases(draw):
    return Case(
        kv_heads=draw(st.sampled_from([1, 1, 2, 3])),
        heads_of_key=draw(st.sampled_from([1, 2, 4, 7])),
        head_dim=draw(st.sampled_from([4, 8, 12, 20, 31, 32, 33, 64, 80, 128, 256])),
        tokens=draw(st.sampled_from([1, 2, 9, 33, 70])),
        prefix=draw(st.sampled_from([0, 0, 1, 3, 11, 40])),
        window=draw(st.sampled_from([0, 0, 1, 2, 6, 31, 100])),
        scores=draw(TYPES),
        looked_up=draw(st.sampled_from([None, None, "uint8", "int16"])),
        probabilities=draw(TYPES),
        target=draw(TYPES),
        flat=draw(st.integers(0, 5)) == 0,
    )


def exponential_table(rng):
    """That of the specification, or one that holds zeros, ones and the largest entry: all are allowed."""
    if rng.random() < 0.6:
        return exp2_table()
    table = extreme.codes(rng, (1, 256), int(rng.integers(2)), 1 << 16)[0]
    table[0] = 1 << 16
    return table


def softmax_factor(rng):
    """Distances of scores become octaves in steps of 1/256: a few or very many of them, by any shift."""
    if rng.random() < 0.15:
        return {"mantissa": int(rng.choice([0, 2**31 - 1])), "shift": int(rng.choice([2, 17, 18, 33, 62]))}
    shift = int(rng.choice([2, 17, 18, 19, 32, 33, rng.integers(2, 63)]))
    mantissa, shift = factor_near(2.0 ** rng.uniform(-8, 4), shift)
    return {"mantissa": mantissa, "shift": shift}


def add_attention(making, case):
    """Queries, keys and values of their own, and what attention makes of them."""
    rng, dims = making.rng, case.head_dim
    q = extreme.codes(rng, (case.tokens, case.heads * dims), 0, 255)
    new = [extreme.codes(rng, (case.tokens, case.kv_heads * dims), 0, 255) for _ in "kv"]
    old = [extreme.codes(rng, (case.kv_heads, dims, case.prefix), 0, 255).transpose(2, 0, 1) for _ in "kv"]
    if case.flat:
        new[0][:], old[0][:] = 131, 131
    for name, codes in zip("qkv", (q, *new), strict=True):
        making.source(name, codes, "uint8", **OPERAND)
    layer = making.cache(case.kv_heads, dims, *old)
    shared = {"layer": layer, "num_heads": case.heads, "head_dim": dims}
    making.tensor("scores", case.scores, case.heads, **extreme.limits(rng, case.scores))
    reach = 2.0 ** rng.uniform(0, 3) * LARGEST[case.scores]
    how = extreme.factor(rng, CENTRED * dims / 4, reach, least_shift=int(rng.choice([2, 30])))
    making.op("attention_scores", ["q", "k"], "scores", **shared, window=case.window, **how)
    add_softmax(making, case)
    making.tensor("y", case.target, case.heads * dims, **extreme.limits(rng, case.target))
    one = LARGEST[case.probabilities] + 1
    how = extreme.factor(rng, 128 * one, LARGEST[case.target], least_shift=int(rng.choice([2, 33])))
    making.op("attention_context", ["probabilities", "v"], "y", **shared, **how)


def add_softmax(making, case):
    rng, scores = making.rng, "scores"
    if case.looked_up:
        scores = making.tensor("looked up", case.looked_up, case.heads, **extreme.limits(rng, case.looked_up))
        spec = making.tensors[scores]
        factor = 128 if (case.scores, case.looked_up) == ("int16", "uint8") else 1
        entries, kind, dtype = (256, "table8", case.looked_up) if case.scores == "uint8" else (513, "table16", "int16")
        table = np.sort(extreme.codes(rng, (1, entries), spec.qmin * factor, spec.qmax * factor)[0])
        making.op(kind, ["scores"], scores, constants={"table": (dtype, table)})
    limits = {} if rng.random() < 0.7 else {"qmax": int(rng.integers(1, LARGEST[case.probabilities]))}
    making.tensor("probabilities", case.probabilities, case.heads, qmin=0, **limits)
    attributes = {"one": LARGEST[case.probabilities] + 1, "window": case.window, **softmax_factor(rng)}
    table = {"table": ("int32", exponential_table(rng))}
    making.op("softmax", [scores], "probabilities", constants=table, **attributes)


def made(case, seed):
    making = Making(np.random.default_rng(seed), case.tokens, case.prefix)
    add_attention(making, case)
    return making.graph("y")


@extreme.examples(150)
@given(cases(), extreme.seeds)
def test_attention(new_folder, case, seed):
    graph = made(case, seed)
    lengths = [case.tokens - case.tokens // 3 - 1, case.tokens // 3, 1] if case.tokens > 2 else None
    check(graph, new_folder(), case.tokens, lengths)


def check(graph, folder, tokens, lengths):
    """One thread decodes token by token: where processors are few, members who wait for each other take long."""
    packaged(graph, folder)
    whole, parts = Reference(graph, range(tokens)), Reference(graph, range(tokens), lengths)
    for kernels in KERNELS:
        traced, fused = Native(folder, kernels, 1, keep_all=True), Native(folder, kernels, 1)
        whole.require_equal_trace(traced)
        parts.require_equal_trace(traced)
        for each in (None, lengths, [1] * tokens):
            whole.require_equal_logits(fused, each)
        parts.require_equal_logits(Native(folder, kernels, 2), lengths)


FORMATS = [(a, b, c) for a in ("uint8", "int16") for b in (None, "uint8", "int16") for c in ("uint8", "int16")]


@pytest.mark.parametrize(("scores", "looked_up", "probabilities"), FORMATS)
def test_members_share_heads_positions_and_dimensions(scores, looked_up, probabilities, new_folder):
    """Three query heads of each of two key heads, more rows than are run at once, a window behind a long prefix."""
    case = Case(2, 3, 40, 140, 37, 50, scores, looked_up, probabilities)
    require_equal_text(made(case, 11), new_folder(), 140, [130, 1, 9])
    require_equal_text(made(replace(case, prefix=0), 12), new_folder(), 140, [139, 1])


def require_equal_text(graph, folder, tokens, lengths):
    packaged(graph, folder)
    reference = Reference(graph, range(tokens), lengths)
    for kernels, threads in [(kernels, threads) for kernels in KERNELS for threads in (1, 3)]:
        reference.require_equal_trace(Native(folder, kernels, threads, keep_all=True))
        for parts in (None, lengths):
            reference.require_equal_logits(Native(folder, kernels, threads), parts)


@pytest.mark.parametrize("probabilities", ["uint8", "int16"])
@pytest.mark.parametrize("flat", [False, True])
def test_sums_of_many_exponentials(flat, probabilities, new_folder):
    """40,000 of them, all alike or not: their sum passes 2^31, and what vectors add before they join their lanes."""
    case = Case(head_dim=8, tokens=3, prefix=40_000, scores="int16", probabilities=probabilities, flat=flat)
    require_equal_everywhere(made(case, 2), new_folder(), range(3), lengths=[2, 1])


def test_a_sum_of_exponentials_beyond_36_bits(new_folder):
    """A lane of a vector alone would pass 32 bits. All probabilities are 0, also by a division that is one."""
    case = Case(head_dim=4, tokens=2, prefix=1 << 20, scores="uint8", flat=True)
    require_equal_everywhere(made(case, 3), new_folder(), range(2), threads=(1,))
