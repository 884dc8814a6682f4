"""Matrices alone: all widths and sizes, groups, extreme factors, sums at the edge of int32."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import extreme
from made_graph import Making, bound_left
from mobilequant.integer.bound import INT32_MAX
from native_engine import require_equal_everywhere

SIZES = [1, 7, 8, 31, 32, 33, 64, 65, 300]


@dataclass(frozen=True)
class Case:
    outputs: int
    inputs: int
    group: int | None
    bits: int
    source: str
    target: str
    edge: str  # of biases: none, any, or as far as int32 allows
    least_shift: int  # from 33 + its raise on, sums are finished in 32 bits
    tokens: int


@st.composite
def cases(draw):
    group = draw(st.sampled_from([None, None, 8, 16, 40, "all"]))
    inputs = draw(st.sampled_from(SIZES)) if group in (None, "all") else group * draw(st.integers(1, 5))
    return Case(
        outputs=draw(st.sampled_from(SIZES)),
        inputs=inputs,
        group=inputs if group == "all" else group,
        bits=draw(st.sampled_from([4, 8])),
        source=draw(st.sampled_from(["uint8", "int16"])),
        target=draw(st.sampled_from(["uint8", "int16"])),
        edge=draw(st.sampled_from(["none", "any", "edge"])),
        least_shift=draw(st.sampled_from([2, 2, 20, 24, 33, 45])),
        tokens=draw(st.sampled_from([1, 5, 13])),
    )


def weights(rng, case, spec):
    """Codes and multipliers whose accumulators fit, often only just."""
    codes = extreme.codes(rng, (case.outputs, case.inputs), *((-8, 7) if case.bits == 4 else (-127, 127)))
    if case.group is None:
        return codes, None
    groups = case.inputs // case.group
    multiplier = extreme.codes(rng, (case.outputs, groups), 1, 255)
    while (left := bound_left(codes, multiplier, spec)).min() < 0:
        multiplier[left < 0] = np.maximum(multiplier[left < 0] // 2, 1)
    return codes, multiplier


def biases(rng, case, left):
    if case.edge == "none":
        return None
    if case.edge == "edge":
        return left * rng.choice([-1, 1], case.outputs)
    return (left * rng.uniform(-1, 1, case.outputs) * 2.0 ** -rng.integers(0, 24, case.outputs)).astype(np.int64)


def rows(rng, case, codes, limits):
    """Random rows, and those that drive some accumulators as far as they go."""
    x = extreme.codes(rng, (case.tokens, case.inputs), limits["qmin"], limits["qmax"])
    for row in range(0, case.tokens, 3):
        sign = codes[rng.integers(case.outputs)] * rng.choice([-1, 1])
        x[row] = np.where(sign > 0, limits["qmax"], limits["qmin"])
    return x


def made(rng, case):
    making, limits = Making(rng, case.tokens), extreme.limits(rng, case.source)
    if case.source == "int16" and case.group:  # as lowering does: narrower codes, so that the sums fit
        widest = INT32_MAX // (case.inputs * (8 if case.bits == 4 else 127))
        limits["qmax"] = min(limits["qmax"], widest)
        limits["qmin"] = -limits["qmax"]
    making.tensor("x", case.source, case.inputs, **limits)
    codes, multiplier = weights(rng, case, making.tensors["x"])
    left = bound_left(codes, multiplier, making.tensors["x"])
    bias = biases(rng, case, left)
    making.source("x", rows(rng, case, codes, limits), case.source, **limits)
    making.tensor("y", case.target, case.outputs, **extreme.limits(rng, case.target))
    reach = 300 if case.target == "uint8" else 40_000
    mantissa, shift = extreme.factors(rng, case.outputs, INT32_MAX - left.min(), reach, least_shift=case.least_shift)
    making.linear("x", "y", codes, mantissa=mantissa, shift=shift, bits=case.bits, bias=bias, multiplier=multiplier)
    return making


@extreme.examples(120)
@given(cases(), extreme.seeds)
def test_linear(new_folder, case, seed):
    making = made(np.random.default_rng(seed), case)
    require_equal_everywhere(making.graph("y"), new_folder(), range(case.tokens))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("source", ["uint8", "int16"])
def test_the_last_shift_that_32_bits_allow_and_the_one_before(bits, source, new_folder):
    """Sums of b bits are finished in 32 bits from the shift b + 2 on (ChannelFactors of kernels/operation.h)."""
    rng = np.random.default_rng(bits)
    making = Making(rng, 9)
    making.source("x", extreme.codes(rng, (9, 40), -32767 if source == "int16" else 0, 255), source)
    codes = extreme.codes(rng, (40, 40), -7, 7)
    bound = INT32_MAX - int(bound_left(codes, None, making.tensors["x"]).min())
    names = []
    for step in (-1, 0, 1, 2, 3):
        shift = np.full(40, bound.bit_length() + step)
        mantissa = rng.integers(0, 2 ** min(31, int(shift[0]) - 12), 40)
        names.append(making.tensor(f"y{step}", "int16", 40))
        making.linear("x", names[-1], codes, mantissa=mantissa, shift=shift, bits=bits)
    require_equal_everywhere(making.graph(*names), new_folder(), range(9))


def test_many_rows_of_a_wide_matrix(new_folder):
    """More than are run at once; more panels than threads; the largest products of bytes side by side."""
    rng = np.random.default_rng(1)
    making = Making(rng, 140)
    making.source("x", extreme.codes(rng, (140, 512), 0, 255), "uint8", zero_point=255)
    codes = extreme.codes(rng, (333, 512), -127, 127)
    mantissa, shift = extreme.factors(rng, 333, 127 * 255 * 512, 40_000)
    making.tensor("y", "int16", 333)
    making.linear("x", "y", codes, mantissa=mantissa, shift=shift)
    require_equal_everywhere(making.graph("y"), new_folder(), range(140), threads=(1, 3), lengths=[130, 10])
