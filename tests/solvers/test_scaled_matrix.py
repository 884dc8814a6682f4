from __future__ import annotations

import pytest
import torch

from mobilequant.solvers.scaled_matrix import scaled_matrix

FACTORS = pytest.mark.parametrize("given", ["rows", "columns", "rows columns"])


def drawn(given):
    generator = torch.Generator().manual_seed(2)
    matrix = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    rows = torch.rand(5, generator=generator, dtype=torch.float64) if "rows" in given else None
    columns = torch.rand(7, generator=generator, dtype=torch.float64) if "columns" in given else None
    return [None if each is None else each.requires_grad_() for each in (matrix, rows, columns)]


@FACTORS
def test_gradients_are_those_of_the_product(given):
    assert torch.autograd.gradcheck(scaled_matrix, drawn(given))


@FACTORS
def test_it_is_the_product_and_a_tensor_of_its_own(given):
    matrix, rows, columns = drawn(given)
    found = scaled_matrix(matrix, rows, columns)
    wanted = matrix * (1 if rows is None else rows[:, None]) * (1 if columns is None else columns)
    assert torch.equal(found, wanted) and found.data_ptr() != matrix.data_ptr()


def test_a_matrix_that_is_no_leaf_gets_no_gradient():
    matrix, rows, columns = drawn("rows columns")
    scaled_matrix(matrix.detach(), rows, columns).sum().backward()
    assert matrix.grad is None and bool((rows.grad != 0).all() and (columns.grad != 0).all())
