import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.integer.ops.elementwise import ADD_HEADROOM_BITS, integer_add, integer_multiply
from mobilequant.integer.ops.requantize import Output
from mobilequant.numerics.fixed_point import multiplier, rescale

INT16 = Output(0, -32767, 32767, torch.int16)
UINT8 = Output(77, 0, 255, torch.uint8)
codes16 = st.integers(-32767, 32767)
scales = st.floats(1e-6, 1e3)


def pair(real: float) -> tuple[int, int]:
    found = multiplier(real)
    return found.mantissa, found.shift


@given(codes16, codes16, scales, scales, scales)
def test_sum_is_within_one_step_and_equals_its_scalar_twin(a: int, b: int, sa: float, sb: float, so: float) -> None:
    common = max(sa, sb) * 2.0**-ADD_HEADROOM_BITS
    if common / so >= 2**29:
        return
    factors = (pair(sa / common), pair(sb / common), pair(common / so))
    found = int(integer_add(torch.tensor([a]), torch.tensor([b]), zero_points=(0, 0), factors=factors, output=INT16))
    wide = rescale(a, *factors[0]) + rescale(b, *factors[1])
    assert abs(wide) < 2**31
    assert found == min(max(rescale(wide, *factors[2]), -32767), 32767)
    real = (a * sa + b * sb) / so
    if abs(real) < 32766:
        assert abs(found - real) <= 0.5 + 1e-3 + (sa + sb) / so * 2.0**-ADD_HEADROOM_BITS


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.floats(1e-6, 1.0))
def test_product_is_rounded_once(a: int, b: int, za: int, zb: int, real: float) -> None:
    mantissa, shift = pair(real)
    found = integer_multiply(
        torch.tensor([a], dtype=torch.uint8),
        torch.tensor([b], dtype=torch.uint8),
        zero_points=(za, zb),
        mantissa=mantissa,
        shift=shift,
        output=UINT8,
    )
    exact = (a - za) * (b - zb) * math.ldexp(mantissa, -shift)
    assert int(found) == min(max(math.floor(exact + 0.5) + 77, 0), 255)
