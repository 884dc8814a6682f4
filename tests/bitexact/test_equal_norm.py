"""Norms alone: groups, exponents, means, biases, and sums of squares from 0 to 2^62."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import extreme
from made_graph import LARGEST, Making
from mobilequant.numerics.exponent import largest_exponent
from native_engine import require_equal_everywhere

TYPES = st.sampled_from(["uint8", "int16"])
EPSILONS = st.sampled_from([0, 1, 1000, 1 << 40, (1 << 61) - 1])


def add_norm(making, source, target, groups, group, epsilon, *, output="y"):
    """A norm of random kind behind a tensor of this many channels."""
    rng = making.rng
    gain = extreme.codes(rng, (1, group), -32768, 32767)[0] >> rng.integers(0, 12)
    constants = {"gain": ("int16", gain)}
    if rng.random() < 0.5:
        constants["bias"] = ("int32", extreme.codes(rng, (1, group), -(1 << 30), 1 << 30)[0] >> rng.integers(0, 20))
    if rng.random() < 0.5:
        constants["exponent"] = ("uint8", extreme.codes(rng, (1, group), 0, largest_exponent(group))[0])
    making.tensor(output, target, groups * group, **extreme.limits(rng, target))
    reach = 2.0 ** rng.uniform(14, 31)  # what gains and biases leave is not known beforehand
    attributes = {"group": group, "epsilon": epsilon, "subtract_mean": rng.integers(2)}
    attributes |= extreme.factor(rng, reach, LARGEST[target])
    making.op("norm", [source], output, constants=constants, **attributes)


@extreme.examples(120)
@given(TYPES, TYPES, st.integers(1, 4), st.sampled_from([1, 2, 7, 16, 48, 65, 256]), EPSILONS, extreme.seeds)
def test_norm(new_folder, source, target, groups, group, epsilon, seed):
    rng = np.random.default_rng(seed)
    making = Making(rng, 12)
    limits = extreme.limits(rng, source)
    x = extreme.codes(rng, (12, groups * group), limits["qmin"], limits["qmax"])
    x[0], x[1] = limits["zero_point"], np.resize([limits["qmin"], limits["qmax"]], groups * group)
    making.source("x", x, source, **limits)
    add_norm(making, "x", target, groups, group, epsilon)
    require_equal_everywhere(making.graph("y"), new_folder(), range(12))


@pytest.mark.parametrize("epsilon", [0, (1 << 61) - 1])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("groups", "group"), [(1, 1 << 14), (2, 1 << 13), (1, 4096)])
def test_the_widest_rows_with_the_largest_codes(groups, group, seed, epsilon, new_folder):
    rng = np.random.default_rng(seed)
    making = Making(rng, 4)
    x = extreme.codes(rng, (4, groups * group), -32767, 32767)
    x[0], x[1] = 32767, np.resize([-32767, 32767], groups * group)
    making.source("x", x, "int16")
    add_norm(making, "x", "int16", groups, group, epsilon)
    require_equal_everywhere(making.graph("y"), new_folder(), range(4), threads=(1,))
