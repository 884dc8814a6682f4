"""Graphs that the engine must not run: each would give other integers than the interpreter."""

import numpy as np
import pytest

from made_graph import Making
from native_engine import KERNELS, Native, PackageError, packaged


def test_exponents_that_a_norm_has_no_room_for_are_refused(new_folder):
    """Before anything is shifted by them, so that no sum of them wraps around."""
    making = Making(np.random.default_rng(0), 4)
    making.source("x", np.arange(16).reshape(4, 4), "int16")
    making.tensor("y", "int16", 4)
    constants = {"gain": ("int16", [1] * 4), "exponent": ("uint8", [0, 0, 0, 13])}
    making.op("norm", ["x"], "y", constants=constants, group=4, epsilon=1, subtract_mean=0, mantissa=1, shift=2)
    graph = making.graph("y")
    for exponent in (14, 60, 61, 62):
        graph.constants["y.exponent"].array[3] = exponent
        with pytest.raises(PackageError, match="exponents"):
            Native(packaged(graph, new_folder()), KERNELS[0], 1)


def test_groups_that_no_kernel_knows_are_refused(new_folder):
    rng = np.random.default_rng(0)
    making = Making(rng, 4)
    making.source("x", rng.integers(0, 256, (4, 24)), "uint8")
    making.tensor("y", "int16", 4)
    factors = {"mantissa": np.full(4, 1 << 30), "shift": np.full(4, 40)}
    codes, multiplier = rng.integers(-7, 8, (4, 24)), np.full((4, 2), 3)
    making.linear("x", "y", codes, **factors, multiplier=multiplier)
    with pytest.raises(PackageError, match="multiple of 8"):
        Native(packaged(making.graph("y"), new_folder()), KERNELS[0], 1)
