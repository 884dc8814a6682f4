import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mobilequant.numerics.packing import pack_int4, unpack_int4

matrices = hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-8, 7))


@given(matrices)
def test_round_trip(codes: np.ndarray) -> None:
    packed = pack_int4(codes)
    assert packed.dtype == np.uint8
    assert packed.shape == (codes.shape[0], -(-codes.shape[1] // 2))
    assert np.array_equal(unpack_int4(packed, codes.shape[1]), codes)


def test_byte_layout_is_low_nibble_first() -> None:
    assert pack_int4(np.array([[1, -8, 7]], np.int8)).tolist() == [[0x81, 0x07]]


def test_wide_codes_and_wrong_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="int4"):
        pack_int4(np.array([[8]], np.int8))
    with pytest.raises(ValueError, match="5 int4 codes"):
        unpack_int4(np.zeros((1, 2), np.uint8), 5)
