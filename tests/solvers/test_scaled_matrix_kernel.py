"""On a GPU where there is one, else in the interpreter of the kernel language."""

from __future__ import annotations

import pytest
import torch

from kernel_language import kernels, there
from mobilequant.solvers import scaled_matrix

SHAPES = pytest.mark.parametrize("shape", [(1, 1), (37, 100), (16, 700)])
FACTORS = pytest.mark.parametrize("given", ["rows", "columns", "rows columns"])


@pytest.fixture(scope="module")
def kernel():
    return kernels("scaled_matrix_kernel")


def drawn(shape, given):
    generator = torch.Generator().manual_seed(shape[1])
    grad, matrix = torch.randn(2, *shape, generator=generator)
    rows = torch.rand(shape[0], generator=generator) if "rows" in given else None
    columns = torch.rand(shape[1], generator=generator) if "columns" in given else None
    return grad, matrix, rows, columns


@SHAPES
@FACTORS
def test_the_product_is_that_of_single_operations(kernel, shape, given):
    _, *factors = drawn(shape, given)
    assert torch.equal(kernel.product(*there(factors)).cpu(), scaled_matrix._product(*factors))


@SHAPES
@FACTORS
def test_sums_are_those_of_single_operations_and_the_same_each_time(kernel, shape, given):
    drawn_here = drawn(shape, given)
    found, again = (kernel.sums(*there(drawn_here)) for _ in range(2))
    for one, same, other in zip(found, again, scaled_matrix._sums(*drawn_here), strict=True):
        assert one is same is other is None or torch.equal(one, same)
        if other is not None:
            torch.testing.assert_close(one.cpu(), other, rtol=1e-4, atol=1e-4)
