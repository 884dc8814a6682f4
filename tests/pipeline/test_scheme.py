import pytest

from mobilequant.numerics.qparams import QParams, symmetric
from mobilequant.numerics.qtype import INT16, UINT8, QType
from mobilequant.pipeline.scheme import Scheme, parse_scheme

WIDE, NARROW = symmetric(1.0, INT16), QParams(1.0, 3, UINT8)
LESS = QParams(1.0, 0, QType("int16", 16, -900, 900, "int16"))  # as narrowed for an accumulator


def test_single_points_go_before_roles():
    scheme = Scheme(8, sixteen_bit=frozenset({"layers.0.up"}), eight_bit=frozenset({"layers.1.o"}))
    assert scheme.activation_qtype("layers.0.up") == INT16 == scheme.activation_qtype("layers.0.o")
    assert scheme.activation_qtype("layers.1.up") == UINT8 == scheme.activation_qtype("layers.1.o")
    assert scheme.name == "static_w8c_a8_kv8"


@pytest.mark.parametrize("wide", [WIDE, LESS])
def test_the_formats_of_points_become_the_scheme(wide):
    found = parse_scheme("static_w4g64_a8_kv8").with_formats(
        {"layers.0.product": wide, "layers.0.o": wide, "layers.1.product": NARROW, "layers.1.o": NARROW}
    )
    expected = Scheme(4, 64, frozenset({"layers.0.product"}), frozenset({"layers.1.o"}))
    assert found == expected
    assert not found.rounds_activations_like(parse_scheme("static_w4g64_a8_kv8"))


def test_a_format_that_changes_again_leaves_its_list_and_others_stay():
    start = Scheme(8, sixteen_bit=frozenset({"layers.0.up", "layers.3.o"}), eight_bit=frozenset({"layers.0.o"}))
    assert start.with_formats({"layers.0.up": NARROW, "layers.0.o": WIDE}) == Scheme(8, None, frozenset({"layers.3.o"}))
    assert start.with_formats({}) == start
    assert start.with_formats({"layers.3.o": WIDE}) == start  # named by the recipe
