import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.integer.ops.norm import bit_length, integer_norm, inverse_sqrt, isqrt, standardize
from mobilequant.integer.ops.requantize import Output
from mobilequant.integer.shape import MAX_CHANNELS
from mobilequant.numerics.exponent import largest_exponent
from mobilequant.numerics.fixed_point import multiplier

positive = st.integers(1, 2**62 - 1)


@given(st.lists(positive, min_size=1, max_size=30))
def test_isqrt_and_bit_length_equal_pythons(values: list[int]) -> None:
    tensor = torch.tensor(values)
    assert isqrt(tensor).tolist() == [math.isqrt(v) for v in values]
    assert bit_length(tensor).tolist() == [v.bit_length() for v in values]


@pytest.mark.parametrize("power", [1, 2, 31, 32, 52, 53, 54, 60, 61])
def test_isqrt_and_bit_length_around_powers_of_two(power: int) -> None:
    values = [2**power - 1, 2**power, 2**power + 1]
    assert isqrt(torch.tensor(values)).tolist() == [math.isqrt(v) for v in values]
    assert bit_length(torch.tensor(values)).tolist() == [v.bit_length() for v in values]


@given(positive)
def test_inverse_sqrt_is_accurate_and_in_range(q: int) -> None:
    inverse, k = (int(x) for x in inverse_sqrt(torch.tensor([q])))
    assert 2**30 <= inverse <= 2**31
    assert math.isclose(inverse * 2.0 ** (k - 61), q**-0.5, rel_tol=4e-9)


def scalar_standardize(row: list[int], epsilon: int, subtract_mean: bool) -> list[int]:
    """The formulas of the specification in unbounded Python integers."""
    channels = len(row)
    m = sum(row) if subtract_mean else 0
    q = max(channels * sum(x * x for x in row) - m * m + epsilon, 1)
    k = (62 - q.bit_length()) // 2
    inverse = 2**61 // math.isqrt(q << (2 * k))
    return [((channels * x - m) * inverse + (1 << (44 - k))) >> (45 - k) for x in row]


rows = st.lists(st.integers(-32768, 32767), min_size=1, max_size=40)


@given(rows, st.integers(0, 2**40), st.booleans())
def test_standardize_equals_its_scalar_twin(row: list[int], epsilon: int, subtract_mean: bool) -> None:
    assert standardize(torch.tensor([row]), epsilon, subtract_mean)[0].tolist() == scalar_standardize(
        row, epsilon, subtract_mean
    )


@pytest.mark.parametrize("subtract_mean", [False, True])
@pytest.mark.parametrize("value", [0, 1, 32767, -32768])
def test_extreme_rows_of_the_widest_norm_do_not_overflow(value: int, subtract_mean: bool) -> None:
    row = [value] * (MAX_CHANNELS - 1) + [-32768]
    assert standardize(torch.tensor([row]), 0, subtract_mean)[0].tolist() == scalar_standardize(row, 0, subtract_mean)


@given(st.integers(0, 2**32), st.integers(1, 300), st.booleans())
def test_standardized_rows_are_close_to_the_real_ones(seed: int, channels: int, subtract_mean: bool) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-30000, 30000, channels)
    centered = x - x.mean() if subtract_mean else x.astype(float)
    rms = np.sqrt(np.mean(centered**2))
    if rms < 1:
        return
    found = standardize(torch.from_numpy(x)[None], 0, subtract_mean)[0].numpy() / 2.0**16
    assert np.abs(found - centered / rms).max() < 2.0**-15


def test_layer_norm_with_gain_and_bias_is_within_one_step_of_the_real_one() -> None:
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(-20000, 20000, (50, 96), generator=generator, dtype=torch.int16)
    gain, bias = torch.randn(96, generator=generator) + 1, torch.randn(96, generator=generator)
    gain_step, unit = float(gain.abs().max()) / 32767, float(gain.abs().max()) / 32767 / 2
    step = 0.03
    factor = multiplier(unit / step)
    found = integer_norm(
        codes,
        zero_point=0,
        epsilon=0,
        subtract_mean=True,
        gain=torch.round(gain / gain_step).to(torch.int16),
        bias=torch.round(bias / unit).to(torch.int32),
        mantissa=factor.mantissa,
        shift=factor.shift,
        output=Output(128, 0, 255, torch.uint8),
    )
    real = torch.nn.functional.layer_norm(codes.double(), (96,), gain.double(), bias.double(), 0.0)
    assert ((found.double() - 128) * step - real.clamp(-128 * step, 127 * step)).abs().max() < 0.51 * step


shifted_rows = st.lists(st.tuples(st.integers(-32767, 32767), st.integers(0, 9)), min_size=2, max_size=64)


@given(shifted_rows, st.integers(0, 2**40), st.booleans())
def test_a_norm_with_exponents_is_the_norm_of_the_shifted_codes(row, epsilon, subtract_mean):
    codes, exponents = (torch.tensor(each) for each in zip(*row, strict=True))
    shifted = [code << exponent for code, exponent in row]
    options = {"zero_point": 0, "epsilon": epsilon, "subtract_mean": subtract_mean, "bias": None}
    factor = multiplier(0.25)
    found = integer_norm(
        codes.to(torch.int16)[None],
        **options,
        gain=torch.full((len(row),), 1 << 14, dtype=torch.int16),
        exponent=exponents.to(torch.uint8),
        mantissa=factor.mantissa,
        shift=factor.shift,
        output=Output(0, -(2**40), 2**40, torch.int64),
    )
    halved = [(z * 2**14 + 2**14) >> 15 for z in scalar_standardize(shifted, epsilon, subtract_mean)]
    assert found[0].tolist() == [(z + 2) >> 2 for z in halved]


@pytest.mark.parametrize("channels", [1, 2, 48, 576, 4096, MAX_CHANNELS])
@pytest.mark.parametrize("subtract_mean", [False, True])
def test_the_largest_exponents_do_not_overflow(channels, subtract_mean):
    widest = 32767 << largest_exponent(channels)
    for row in ([widest] * channels, [widest] * (channels // 2) + [-widest] * (channels - channels // 2)):
        found = standardize(torch.tensor([row]), (1 << 61) - 1, subtract_mean)[0].tolist()
        assert found == scalar_standardize(row, (1 << 61) - 1, subtract_mean)


def test_a_row_of_zeros_stays_zero() -> None:
    assert standardize(torch.zeros(1, 8, dtype=torch.int64), 0, False).tolist() == [[0] * 8]
