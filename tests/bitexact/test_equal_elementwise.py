"""Operations on rows alone: embedding, rope, tables, multiply, add."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import extreme
from made_graph import LARGEST, Making
from mobilequant.integer.graph import TOKENS
from native_engine import require_equal_everywhere

TYPES = st.sampled_from(["uint8", "int16"])
CHANNELS = st.sampled_from([1, 3, 16, 17, 64, 100, 257])
TOKEN_COUNTS = st.sampled_from([1, 2, 11])


def random_source(making, name, dtype, channels):
    limits = extreme.limits(making.rng, dtype)
    x = extreme.codes(making.rng, (making.num_tokens, channels), limits["qmin"], limits["qmax"])
    return making.source(name, x, dtype, **limits)


def furthest(spec):
    """The largest distance of a code from the zero point."""
    return max(spec.qmax - spec.zero_point, spec.zero_point - spec.qmin, 1)


@extreme.examples(40)
@given(TYPES, TYPES, TYPES, CHANNELS, TOKEN_COUNTS, st.booleans(), extreme.seeds)
def test_multiply(new_folder, a, b, target, channels, tokens, square, seed):
    rng = np.random.default_rng(seed)
    making = Making(rng, tokens)
    a = random_source(making, "a", a, channels)
    b = a if square else random_source(making, "b", b, channels)
    making.tensor("y", target, channels, **extreme.limits(rng, target))
    bound = furthest(making.tensors[a]) * furthest(making.tensors[b])
    making.op("multiply", [a, b], "y", **extreme.factor(rng, bound, LARGEST[target]))
    require_equal_everywhere(making.graph("y"), new_folder(), range(tokens))


@extreme.examples(40)
@given(TYPES, TYPES, TYPES, CHANNELS, TOKEN_COUNTS, st.booleans(), extreme.seeds)
def test_add(new_folder, a, b, target, channels, tokens, same, seed):
    """The sum of both terms often fills 31 bits."""
    rng = np.random.default_rng(seed)
    making = Making(rng, tokens)
    a = random_source(making, "a", a, channels)
    b = a if same else random_source(making, "b", b, channels)
    share, reach = rng.uniform(0, 1), 2.0 ** rng.uniform(8, 31)
    terms = {}
    for letter, name, part in (("a", a, share), ("b", b, 1 - share)):
        most = min(reach, 2**31 - 4) * part
        shift = int(rng.integers(2, 63))
        mantissa = min(int(most * 2.0**shift / furthest(making.tensors[name])), 2**31 - 1)
        terms |= {f"mantissa_{letter}": mantissa, f"shift_{letter}": shift}
    making.tensor("y", target, channels, **extreme.limits(rng, target))
    making.op("add", [a, b], "y", **terms, **extreme.factor(rng, reach, LARGEST[target]))
    require_equal_everywhere(making.graph("y"), new_folder(), range(tokens))


@pytest.mark.parametrize("target", ["uint8", "int16"])
@pytest.mark.parametrize("source", ["uint8", "int16"])
def test_every_code_through_a_table(source, target, new_folder):
    """Steep and flat ones, up and down."""
    rng = np.random.default_rng(5)
    low, high = (0, 255) if source == "uint8" else (-32767, 32767)
    making = Making(rng, 256)
    every = np.resize(np.arange(low, high + 1), (256, 1 if source == "uint8" else 257))
    making.source("x", every, source)
    entries, factor = (256, 1) if source == "uint8" else (513, 128 if target == "uint8" else 1)
    spec = making.tensors[making.tensor("limits", target, 1)]
    del making.tensors["limits"]
    names = []
    for kind in range(6):
        table = extreme.codes(rng, (1, entries), spec.qmin * factor, spec.qmax * factor)[0]
        table = np.sort(table)[:: -1 if kind == 1 else 1] if kind < 2 else table
        names.append(making.tensor(f"y{kind}", target, every.shape[1]))
        stored = target if source == "uint8" else "int16"
        making.op("table8" if source == "uint8" else "table16", ["x"], names[-1], constants={"table": (stored, table)})
    require_equal_everywhere(making.graph(*names), new_folder(), range(256), threads=(1,), lengths=[200, 56])


@extreme.examples(40)
@given(TYPES, TYPES, st.integers(1, 5), st.sampled_from([2, 3, 7, 16, 33, 64, 128]), TOKEN_COUNTS, extreme.seeds)
def test_rope(new_folder, source, target, heads, head_dim, tokens, seed):
    """All dimensions of a head turn, or some; the tables hold any 16 bits."""
    rng = np.random.default_rng(seed)
    making = Making(rng, tokens, num_prefix=int(rng.integers(0, 4)))
    x = random_source(making, "x", source, heads * head_dim)
    making.tensor("y", target, heads * head_dim, **extreme.limits(rng, target))
    half = int(rng.integers(1, head_dim // 2 + 1))
    largest = int(rng.choice([1 << 14, 32767]))
    tables = {name: ("int16", extreme.codes(rng, (making.context, half), -largest, largest)) for name in ("cos", "sin")}
    bound = 2 * largest * furthest(making.tensors[x])
    making.op("rope", [x], "y", constants=tables, head_dim=head_dim, **extreme.factor(rng, bound, LARGEST[target]))
    require_equal_everywhere(making.graph("y"), new_folder(), range(tokens))


def row_table(rng, prefix, rows, channels, target):
    """Codes and factors of tokens or positions, with exponents that their shifts have room for."""
    codes = extreme.codes(rng, (rows, channels), -127, 127)
    mantissa, shift = extreme.factors(rng, rows, 127, LARGEST[target])
    table = {"codes": ("int8", codes), "mantissa": ("int32", mantissa), "shift": ("int8", shift)}
    if rng.random() < 0.6:
        room = 62 - int(shift.max())
        table["exponent"] = ("uint8", extreme.codes(rng, (1, channels), 0, min(room, int(rng.choice([3, 60]))))[0])
    return {f"{prefix}{name}": value for name, value in table.items()}


@extreme.examples(50)
@given(TYPES, CHANNELS, TOKEN_COUNTS, st.booleans(), extreme.seeds)
def test_embedding(new_folder, target, channels, tokens, positions, seed):
    rng = np.random.default_rng(seed)
    making = Making(rng, tokens, num_prefix=int(rng.integers(0, 4)))
    making.tensor("y", target, channels, **extreme.limits(rng, target))
    table = row_table(rng, "", tokens, channels, target)
    if positions:
        table |= row_table(rng, "position_", making.context + int(rng.integers(3)), channels, target)
    making.op("embedding", [TOKENS], "y", constants=table)
    require_equal_everywhere(making.graph("y"), new_folder(), rng.permutation(tokens))
