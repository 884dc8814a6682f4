"""Roundings that hardly any random number meets, or whose last bit is lost in what follows: made visible on purpose."""

import math

import numpy as np
import pytest

import extreme
from made_graph import Making
from mobilequant.integer.ops.softmax import exp2_table
from native_engine import require_equal_everywhere

IDENTITY = {"mantissa": 1 << 30, "shift": 30}


def attention_of_one_row(query, keys, scores_factor, softmax_factor, probabilities):
    """One token with a head of four dimensions; all keys (S, 4) but the last are the prefix."""
    making = Making(np.random.default_rng(0), 1, len(keys) - 1)
    operand = {"zero_point": 128, "qmin": 0, "qmax": 255}
    making.source("q", np.array([query]), "uint8", **operand)
    making.source("k", keys[-1:], "uint8", **operand)
    making.source("v", np.array([[255, 0, 200, 3]]), "uint8", **operand)
    layer = making.cache(1, 4, keys[:-1, None], np.resize([7, 250, 128], (len(keys) - 1, 1, 4)))
    shared = {"layer": layer, "num_heads": 1, "head_dim": 4}
    making.tensor("scores", "int16", 1)
    making.op("attention_scores", ["q", "k"], "scores", **shared, window=0, **scores_factor)
    making.tensor("probabilities", probabilities, 1, qmin=0)
    one, table = {"uint8": 256, "int16": 32768}[probabilities], {"table": ("int32", exp2_table())}
    making.op("softmax", ["scores"], "probabilities", constants=table, one=one, window=0, **softmax_factor)
    making.tensor("y", "int16", 4)
    making.op("attention_context", ["probabilities", "v"], "y", **shared, **IDENTITY)
    return making.graph("y")


@pytest.mark.parametrize("factor", [{"mantissa": 1 << 10, "shift": 2}, {"mantissa": 1 << 26, "shift": 18}])
@pytest.mark.parametrize("probabilities", ["uint8", "int16"])
def test_probabilities_in_the_middle_of_two_codes_round_up(probabilities, factor, new_folder):
    """Exponentials 1, 1/2, 1/4 … 2^−16, 2^−16 sum to 2: all shares of a power of two, one of them half a code."""
    keys = np.full((18, 4), 128)
    keys[:, 0] -= [*range(17), 16]  # times a query of 1, these are the scores
    graph = attention_of_one_row([129, 128, 128, 128], keys, IDENTITY, factor, probabilities)
    require_equal_everywhere(graph, new_folder(), range(1))


@pytest.mark.parametrize("shift", [4, 5, 15, 16, 17, 18, 19, 32, 33, 34])
def test_the_largest_distances_of_scores(shift, new_folder):
    """Up to 65534, sixteen octaves here: no shift that is chosen to be fast may lose their highest bit."""
    keys = np.linspace(0, 255, 301).astype(np.int64)[:, None].repeat(4, axis=1)
    scores = {"mantissa": 1 << 29, "shift": 30}
    graph = attention_of_one_row([255] * 4, keys, scores, {"mantissa": 1 << (shift - 4), "shift": shift}, "int16")
    require_equal_everywhere(graph, new_folder(), range(1))


@pytest.mark.parametrize("subtract_mean", [0, 1])
@pytest.mark.parametrize("epsilon", [0, 1 << 30, 1 << 45])
@pytest.mark.parametrize("group", [7, 48, 300])
def test_the_last_bits_of_a_norm(group, epsilon, subtract_mean, new_folder):
    """A bias takes away what a first row gives: rows that differ little from it leave small numbers."""
    rng = np.random.default_rng(group)
    first = rng.integers(-30_000, 30_001, group)
    first[0] = 32_000
    x = first + rng.integers(-2, 3, (200, group)) * (rng.random((200, group)) < 0.5)
    making = Making(rng, 200)
    making.source("x", x, "int16")
    gain = extreme.codes(rng, (1, group), -32768, 32767)[0]
    taken = [-before_bias(first, c, g, epsilon, subtract_mean) for c, g in enumerate(gain)]
    making.tensor("y", "int16", group)
    constants = {"gain": ("int16", gain), "bias": ("int32", taken)}
    attributes = {"group": group, "epsilon": epsilon, "subtract_mean": subtract_mean}
    making.op("norm", ["x"], "y", constants=constants, **attributes, **IDENTITY)
    require_equal_everywhere(making.graph("y"), new_folder(), range(200), threads=(1,), lengths=[199, 1])


def before_bias(row, channel, gain, epsilon, subtract_mean):
    """t of docs/integer-semantics.md, about."""
    x = row.astype(float)
    mean = x.mean() if subtract_mean else 0.0
    root = math.sqrt(float((x * x).mean()) - mean * mean + epsilon / len(row) ** 2)
    return round((float(x[channel]) - mean) / root * 2**16 * int(gain) / 2**15)


def norms(new_folder, x, epsilons, *, bias=0):
    """The same rows through norms whose results are written as they are, but for a bias."""
    making = Making(np.random.default_rng(0), len(x))
    making.source("x", x, "int16")
    group, names = x.shape[1], []
    constants = {"gain": ("int16", np.full(group, 32767)), "bias": ("int32", np.full(group, bias))}
    for number, epsilon in enumerate(epsilons):
        names.append(making.tensor(f"y{number}", "int16", group))
        attributes = {"group": group, "epsilon": epsilon, "subtract_mean": 0}
        making.op("norm", ["x"], names[-1], constants=constants, **attributes, **IDENTITY)
    require_equal_everywhere(making.graph(*names), new_folder(), range(len(x)), threads=(1,))


def test_standardized_values_in_the_middle_of_two_steps(new_folder):
    """With q = 2^60, z = c / 2^14: c is an odd number of halves of it."""
    x = np.array([[4096, 12288], [-4096, 12288], [12288, -4096], [-12288, -4096]])
    norms(new_folder, x, [2**60 - 2 * int((x[0] ** 2).sum())])


def test_roots_of_one_less_than_a_square(new_folder):
    """A square root in floating point gives the next number, and where it does so here, a step is lost."""
    group, largest = 1 << 14, 32767
    x = np.zeros((1, group), dtype=np.int64)
    x[0, 0] = largest
    step = [group * largest * (2**61 // root) + 2**44 >> 45 for root in range(2**30, 2**30 + 200_000)]
    roots = [2**30 + n for n in range(1, len(step)) if step[n] != step[n - 1]][1:4]
    norms(new_folder, x, [(root**2 - 1) - group * largest**2 for root in roots], bias=-16384)


@pytest.mark.parametrize("epsilon", [0, 1 << 38, 1 << 40])
def test_the_last_bits_of_the_largest_standardized_values(epsilon, new_folder):
    """One channel stands out: a hundred roots, of numbers with an even number of bits, to the last of their 30 bits."""
    x = np.random.default_rng(1).integers(-1000, 1001, (100, 4096))
    x[:, 0] = 32_000
    largest = before_bias(x[0], 0, 32767, epsilon, 0)
    norms(new_folder, x, [epsilon], bias=-largest)


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_products_sums_and_rescaled_codes_in_the_middle_of_two_codes(dtype, new_folder):
    """Halves of both signs, of every operation that only rescales."""
    rng = np.random.default_rng(4)
    making = Making(rng, 8)
    for name in "ab":
        making.source(name, rng.integers(-300, 301, (8, 96)), "int16")
    limits = {"zero_point": 100} if dtype == "uint8" else {}
    for name in ("product", "sum", "turned"):
        making.tensor(name, dtype, 96, **limits)
    making.op("multiply", ["a", "b"], "product", mantissa=1, shift=3)
    halves = {"mantissa_a": 2, "shift_a": 2, "mantissa_b": 1, "shift_b": 2}
    making.op("add", ["a", "b"], "sum", **halves, mantissa=2, shift=2)
    angles = {name: ("int16", rng.choice([-(1 << 14), 0, 1 << 13, 1 << 14], (8, 24))) for name in ("cos", "sin")}
    making.op("rope", ["a"], "turned", constants=angles, head_dim=48, mantissa=1, shift=15)
    require_equal_everywhere(making.graph("product", "sum", "turned"), new_folder(), range(8), threads=(1,))
