"""Tensors that lie in the same memory one after the other, matrices that several operations read, fused steps."""

from dataclasses import replace

import numpy as np
import pytest

import extreme
from made_graph import LARGEST, Making
from mobilequant.integer.graph import TOKENS
from native_engine import KERNELS, Native, Reference, packaged, require_equal_everywhere

ROWS = 128  # as many as are run at once


@pytest.mark.parametrize("threads", [2, 3, 5, 8])
@pytest.mark.parametrize("widths", [(512, 256, 128, 64, 32), (2048, 32, 64, 480)])
def test_rows_of_narrow_and_wide_tensors_in_the_same_memory_do_not_meet(widths, threads, new_folder):
    """Members who compute rows do not wait for each other from one tensor to the next: a row must not lie where another
    member reads or writes a row of an earlier tensor. A draft that packed narrow rows more closely failed here."""
    rng = np.random.default_rng(threads)
    making = Making(rng, ROWS)
    kept = []
    for width in widths:
        x = making.source(f"x{width}", rng.integers(-32767, 32768, (ROWS, width)), "int16")
        kept.append(making.tensor(f"y{width}", "int16", width))
        table = rng.integers(-32767, 32768, 513)
        making.op("table16", [x], kept[-1], constants={"table": ("int16", table)})  # the last that reads x
    graph = making.graph(*kept)
    reference, folder = Reference(graph, range(ROWS)), packaged(graph, new_folder())
    native = Native(folder, KERNELS[0], threads)
    for _ in range(20):
        reference.require_equal_logits(native)


def reading_the_same_codes(multipliers):
    """An embedding and matrices that name one constant; each matrix has the multipliers of this number, or none."""
    rng = np.random.default_rng(8)
    making, codes = Making(rng, 24), extreme.codes(rng, (24, 32), -7, 7)
    making.source("x", extreme.codes(rng, (24, 32), 0, 255), "uint8", zero_point=100)
    making.op("embedding", [TOKENS], making.tensor("e", "int16", 32), constants=embedding_of(codes))
    constants = [making.constant(f"multiplier{n}", "uint8", rng.integers(1, 256, (24, 4))) for n in range(2)]
    for number, chosen in enumerate(multipliers):
        multiplier = None if chosen is None else making.constants[constants[chosen]].array
        name = making.tensor(f"y{number}", "int16", 24)
        mantissa, shift = rng.integers(2**26, 2**28, 24), np.full(24, 40)
        making.linear("x", name, codes, mantissa=mantissa, shift=shift, multiplier=multiplier)
        share(making, codes="e.codes", group_multiplier=None if chosen is None else constants[chosen])
    unused = set(constants) - {name for op in making.ops for name in op.constants.values()}
    making.constants = {name: constant for name, constant in making.constants.items() if name not in unused}
    return making.graph("e", *(f"y{number}" for number in range(len(multipliers))))


def embedding_of(codes):
    factors = {"mantissa": ("int32", np.full(24, 1000)), "shift": ("int8", np.full(24, 4))}
    return {"codes": ("int8", codes), **factors}


def share(making, **names):
    """The last operation reads these constants instead of its own."""
    op, wanted = making.ops[-1], {parameter: name for parameter, name in names.items() if name}
    for parameter in wanted:
        del making.constants[op.constants[parameter]]
    making.ops[-1] = replace(op, constants={**op.constants, **wanted})


@pytest.mark.parametrize("multipliers", [(None, None), (0, 0), (0, 1), (0, None), (None, 1)])
def test_an_embedding_and_matrices_share_their_codes(multipliers, new_folder):
    require_equal_everywhere(reading_the_same_codes(multipliers), new_folder(), range(24), threads=(1,))


@pytest.mark.parametrize("second", ["uint8", "int16"])
@pytest.mark.parametrize("first", ["uint8", "int16"])
@pytest.mark.parametrize("order", [("activation", "up"), ("up", "activation")])
def test_steps_that_are_done_in_one_pass(order, first, second, new_folder):
    """Gate, activation function, up and product; the rows of one do not divide by those of a tile."""
    rng = np.random.default_rng(9)
    making = Making(rng, 31)
    making.source("x", extreme.codes(rng, (31, 48), 0, 255), "uint8", zero_point=7)
    for name, dtype in (("gate", first), ("up", second)):
        limits = extreme.limits(rng, dtype)
        making.tensor(name, dtype, 77, **limits)
        mantissa, shift = extreme.factors(rng, 77, 127 * 255 * 48, LARGEST[dtype])
        bits = 4 if name == "up" else 8
        codes = extreme.codes(rng, (77, 48), -7, 7)
        making.linear("x", name, codes, mantissa=mantissa, shift=shift, bits=bits)
    making.tensor("activation", second, 77)
    kind, entries, factor = (
        ("table8", 256, 1) if first == "uint8" else ("table16", 513, 128 if second == "uint8" else 1)
    )
    spec = making.tensors["activation"]
    table = extreme.codes(rng, (1, entries), spec.qmin * factor, spec.qmax * factor)[0]
    stored = second if first == "uint8" else "int16"
    making.op(kind, ["gate"], "activation", constants={"table": (stored, table)})
    making.tensor("y", "int16", 77)
    making.op("multiply", order, "y", **extreme.factor(rng, LARGEST[second] ** 2, 40_000))
    require_equal_everywhere(making.graph("y"), new_folder(), range(31), threads=(1, 2, 3), lengths=[29, 2])
