import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.arch.architecture import Rope
from mobilequant.integer.build import GraphBuilder
from mobilequant.integer.ops.requantize import Output
from mobilequant.integer.ops.rope import integer_rope, rope_tables
from mobilequant.integer.ops.table import look_up8, look_up16, table8, table16
from mobilequant.models.decoder import rotate
from mobilequant.numerics.fixed_point import multiplier
from mobilequant.numerics.qparams import QParams, asymmetric, symmetric
from mobilequant.numerics.qtype import INT16, UINT8

ROPE = Rope(tuple(10000.0 ** (-i / 4) for i in range(4)))


@given(st.integers(0, 2**32), st.integers(0, 255))
def test_integer_rope_is_within_one_step_of_the_real_rotation(seed: int, zero_point: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 256, (6, 3, 12), generator=generator, dtype=torch.uint8)  # 8 of 12 dimensions turn
    cos, sin = (torch.from_numpy(table) for table in rope_tables(ROPE, 6))
    factor = multiplier(0.02 / 0.03 / (1 << 14))
    found = integer_rope(
        codes,
        cos,
        sin,
        zero_point=zero_point,
        mantissa=factor.mantissa,
        shift=factor.shift,
        output=Output(128, 0, 255, torch.uint8),
    )
    heads = ((codes.double() - zero_point) * 0.02).transpose(0, 1)[None]
    real = rotate(heads, ROPE, 0)[0].transpose(0, 1).clamp(-128 * 0.03, 127 * 0.03)
    assert ((found.double() - 128) * 0.03 - real).abs().max() < 0.53 * 0.03


def test_tables_hold_one_exactly_and_refuse_large_attention_factors() -> None:
    cos, sin = rope_tables(ROPE, 2)
    assert cos[0].tolist() == [1 << 14] * 4
    assert sin[0].tolist() == [0] * 4
    with pytest.raises(ValueError, match="attention factor"):
        rope_tables(Rope((1.0,), attention_factor=2.0), 2)


def test_table8_is_the_rounded_function_of_every_code() -> None:
    source, target = asymmetric(-4.0, 4.0), QParams(1 / 256, 0, UINT8)
    table = torch.from_numpy(table8(lambda x: 1 / (1 + np.exp(-x)), source, target))
    codes = torch.arange(256).to(torch.uint8)
    real = 256 / (1 + np.exp(-(np.arange(256) - source.zero_point) * source.scale))
    assert np.abs(look_up8(codes, table).numpy() - np.minimum(real, 255)).max() <= 0.5


def test_table16_interpolates_within_two_steps_over_all_codes() -> None:
    q = symmetric(20.0, INT16)
    table = torch.from_numpy(table16(lambda x: 15 * np.tanh(x / 15), q, q))
    codes = torch.arange(-32767, 32768).to(torch.int16)
    real = 15 * np.tanh(codes.double().numpy() * q.scale / 15) / q.scale
    assert np.abs(look_up16(codes, table).double().numpy() - real).max() < 2


def test_table16_to_8_bits_is_within_a_step_over_all_codes() -> None:
    source, target = symmetric(30.0, INT16), asymmetric(-12.0, 15.0)
    entries = table16(lambda x: 15 * np.tanh(x / 15), source, target, 7)
    assert entries.dtype == np.int16 and entries.min() >= 0 and entries.max() <= 255 * 128
    codes = torch.arange(-32767, 32768).to(torch.int16)
    found = look_up16(codes, torch.from_numpy(entries), 7).numpy()
    real = 15 * np.tanh(codes.double().numpy() * source.scale / 15)
    exact = np.clip(np.floor(real / target.scale + 0.5) + target.zero_point, 0, 255)
    assert np.abs(found - exact).max() <= 1
    assert (found != exact).mean() < 0.01


def test_table16_reaches_its_last_entry_only_by_interpolation() -> None:
    table = torch.zeros(513, dtype=torch.int16)
    table[512] = 128
    assert look_up16(torch.tensor([32767, 32640, 32639], dtype=torch.int16), table).tolist() == [127, 0, 0]


def test_layers_share_tables_only_where_they_turn_alike():
    builder = GraphBuilder({})
    slow, slower = Rope((2e-4,)), Rope((1e-4,))  # equal cosines in these few positions, other sines
    names = [builder._rope_tables(rope, 30) for rope in (slow, slower, slow)]
    assert names[0] == names[2] != names[1]
    cosines, sines = ([builder.constants[name].array for name in pair] for pair in zip(*names[:2], strict=True))
    assert np.array_equal(*cosines) and not np.array_equal(*sines)
