import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.integer.ops.softmax import exp2_table, exponential_table, integer_softmax
from mobilequant.numerics.fixed_point import multiplier, rescale

TABLE = torch.from_numpy(exp2_table())


def run(scores: list[list[int]], visible: list[list[bool]], scale: float, one: int, qmax: int) -> list[list[int]]:
    factor = multiplier(scale * math.log2(math.e) * 256)
    exponentials = exponential_table(TABLE, factor.mantissa, factor.shift)
    found = integer_softmax(
        torch.tensor([scores], dtype=torch.int16), torch.tensor(visible), exponentials, one=one, qmax=qmax
    )
    return found[0].to(torch.int64).tolist()


def scalar_softmax(row: list[int], visible: list[bool], scale: float, one: int, qmax: int) -> list[int]:
    """The formulas of the specification in unbounded Python integers."""
    factor = multiplier(scale * math.log2(math.e) * 256)
    largest = max(x for x, v in zip(row, visible, strict=True) if v)
    e = []
    for x, seen in zip(row, visible, strict=True):
        t = rescale(largest - x, factor.mantissa, factor.shift) if seen else 0
        octaves = min(t >> 8, 17)
        e.append((int(TABLE[t & 255]) + ((1 << octaves) >> 1)) >> octaves if seen else 0)
    total = sum(e)
    return [min((2 * one * value + total) // (2 * total), qmax) for value in e]


rows = st.lists(st.tuples(st.integers(-32767, 32767), st.booleans()), min_size=1, max_size=40)


@given(rows, st.floats(1e-5, 0.5), st.sampled_from([(256, 255), (32768, 32767)]))
def test_equals_its_scalar_twin(pairs: list[tuple[int, bool]], scale: float, form: tuple[int, int]) -> None:
    row, visible = [x for x, _ in pairs], [v for _, v in pairs]
    visible[-1] = True
    assert run([row], [visible], scale, *form)[0] == scalar_softmax(row, visible, scale, *form)


@given(st.integers(0, 2**32), st.floats(1e-4, 1e-2))
def test_is_within_one_step_of_the_real_softmax(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    row = rng.integers(-3000, 3000, 64)
    real = np.exp((row - row.max()) * scale)
    real = real / real.sum() * 256
    found = np.array(run([row.tolist()], [[True] * 64], scale, 256, 255)[0])
    assert np.abs(found - np.minimum(real, 255)).max() < 0.51 + real.max() * 0.003


def test_masked_scores_count_for_nothing_even_when_huge() -> None:
    assert run([[100, 32767]], [[True, False]], 0.01, 256, 255) == [[255, 0]]


def test_equal_scores_share_equally() -> None:
    assert run([[5, 5, 5, 5]], [[True] * 4], 0.1, 256, 255) == [[64] * 4]


@pytest.mark.parametrize("count", [1, 3, 511, 4096])
def test_rounded_probabilities_sum_to_at_most_one_plus_half_the_row(count: int) -> None:
    probabilities = run([[0] * count], [[True] * count], 0.01, 256, 255)[0]
    assert sum(probabilities) <= 256 + count // 2
