import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilequant.transforms.hadamard import hadamard, random_hadamard
from mobilequant.transforms.orthogonal import random_orthogonal

WIDTHS_OF_MODELS = [64, 72, 80, 96, 128, 256, 576, 600, 640, 768, 896, 960, 1152, 1600]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def misses_identity(matrix):
    return (matrix @ matrix.mT - torch.eye(len(matrix), dtype=torch.float64)).abs().max().item()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 150), st.integers(0, 2**40), st.sampled_from([random_hadamard, random_orthogonal]))
def test_any_width_has_an_orthogonal_matrix(width, seed, make):
    matrix = make(width, generator(seed))
    assert matrix.shape == (width, width) and matrix.dtype == torch.float64
    assert misses_identity(matrix) < 1e-12
    assert torch.equal(matrix, make(width, generator(seed)))


@pytest.mark.parametrize("width", WIDTHS_OF_MODELS)
def test_all_entries_are_equally_small_for_the_widths_of_models(width):
    matrix = random_hadamard(width, generator())
    torch.testing.assert_close(matrix.abs(), torch.full_like(matrix, width**-0.5), rtol=1e-12, atol=0)


@pytest.mark.parametrize("order", [2, 12, 20, 24, 28, 36, 44, 48, 52, 60, 76, 84, 100])
def test_sylvester_and_both_paley_constructions(order):
    """12 and 24 are Paley I, 28 and 36 Paley II, 52 and 100 Paley II over the fields of 25 and 49 elements."""
    matrix = hadamard(order)
    assert set(matrix.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(matrix @ matrix.mT, order * torch.eye(order, dtype=torch.float64))


@pytest.mark.parametrize("order", [1, 3, 6, 92, 116])
def test_an_order_without_a_construction_is_refused(order):
    with pytest.raises(ValueError, match=str(order)):
        hadamard(order)


@pytest.mark.parametrize(("width", "left"), [(3, 3), (18, 9), (92, 23), (150, 75)])
def test_only_what_is_left_over_is_filled_with_larger_entries(width, left):
    """Entries of a Kronecker product of H/√n with another orthogonal matrix are those of the latter over √n."""
    matrix = random_hadamard(width, generator())
    largest = matrix.abs().max().item()
    assert width**-0.5 < largest <= (width / left) ** -0.5
    assert misses_identity(matrix) < 1e-12


def test_signs_keep_alike_channels_and_large_channels_apart():
    matrix = random_hadamard(64, generator())
    alike = torch.ones(64, dtype=torch.float64) @ matrix
    assert alike.abs().max() < 0.6 * 64**0.5  # a Hadamard matrix alone would put all of it into one channel
    assert all(0.2 < (row > 0).double().mean() < 0.8 for row in matrix)


def test_seeds_differ():
    assert not torch.equal(random_hadamard(12, generator(1)), random_hadamard(12, generator(2)))


def test_random_orthogonal_matrices_point_everywhere():
    """Without the signs of R, QR would prefer one half of all directions."""
    firsts = torch.stack([random_orthogonal(2, generator(seed))[0] for seed in range(400)])
    assert firsts.mean(0).abs().max() < 0.15
