"""Learned and published ranges, which answer the same questions."""

from __future__ import annotations

import pytest
import torch

from mobilequant.arch.point import part_of
from mobilequant.models import quantized
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import INT16, UINT8
from mobilequant.solvers.learned.activation_range import RELATIVE, ActivationRanges
from mobilequant.solvers.learned.published_range import PUBLISHED

CPU = torch.device("cpu")
START = {
    "layers.0.up": QParams(0.02, 100, UINT8),
    "layers.0.v": QParams(0.03, 128, UINT8),
    "layers.0.probs": QParams(1 / 256, 0, UINT8),
    "layers.0.o": QParams(1e-4, 0, INT16),
    "final_norm": QParams(5.0, 0, UINT8),
}
FIXED, CENTRED = ["layers.0.probs"], ["layers.0.v"]
VALUE = 2 * torch.randn(6, 50, generator=torch.Generator().manual_seed(1))
BOTH = pytest.mark.parametrize("how", [RELATIVE, PUBLISHED], ids=["learned", "published"])


def made(how=RELATIVE):
    return ActivationRanges(START, CPU, FIXED, CENTRED, how)


def rounded(ranges, name, value=VALUE):
    return ranges.tap(part_of(name))(name, value)


def leaves(ranges):
    return {name: leaf for part in ("layers.0", "head") for name, leaf in ranges.parameters(part).items()}


@BOTH
def test_it_starts_as_the_simulation(how):
    ranges = made(how)
    for name, qparams in START.items():
        wanted = quantized.fake_quantize(VALUE, qparams)
        torch.testing.assert_close(rounded(ranges, name).detach(), wanted, rtol=1e-6, atol=1e-7)
    assert rounded(ranges, "layers.0.q") is VALUE
    assert all(START[name].zero_point == each.zero_point for name, each in ranges.finished().items())


@BOTH
def test_what_is_fixed_has_no_number_and_what_is_centred_no_offset(how):
    ranges = made(how)
    count = {name: len(leaf) for name, leaf in leaves(ranges).items()}
    scale, offset = how.kinds
    assert count == {f"layers.0.{scale}": 3, f"layers.0.{offset}": 2, f"head.{scale}": 1, f"head.{offset}": 1}
    assert set(ranges.finished()) == set(START) - set(FIXED)
    assert ActivationRanges(START, CPU, START, (), how).parameters("layers.0") == {}


@BOTH
def test_every_point_moves_its_own_numbers(how):
    """Which number of a vector belongs to which point: each point alone, and what it leaves for the others."""
    for name in ("layers.0.up", "layers.0.v", "layers.0.o"):
        ranges = made(how)
        (rounded(ranges, name, 40 * VALUE) * VALUE).sum().backward()
        with torch.no_grad():
            for leaf in ranges.parameters("layers.0").values():
                leaf += 0.0 if leaf.grad is None else leaf.grad.sign() * 1e-3
        moved = [each for each, found in ranges.finished().items() if found.scale != pytest.approx(START[each].scale)]
        assert moved == [name]
        if name == "layers.0.v":
            assert ranges.finished()[name].zero_point == 128


@pytest.mark.parametrize("size", [1, 300, 40_000])
@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_what_is_finished_is_what_was_used(size, spread):
    ranges, generator = made(), torch.Generator().manual_seed(int(10 * spread))
    with torch.no_grad():
        for leaf in leaves(ranges).values():
            leaf += 0.1 * spread * torch.randn(len(leaf), generator=generator)
    value = VALUE.flatten()[:1].expand(size) if size == 1 else VALUE.repeat(size // 300, 1)
    finished = ranges.finished()
    assert finished["layers.0.v"].zero_point == 128
    for name, qparams in finished.items():
        assert qparams.qtype.qmin <= qparams.zero_point <= qparams.qtype.qmax
        assert torch.equal(rounded(ranges, name, value), quantized.fake_quantize(value, qparams))


@BOTH
def test_gradients_reach_every_number(how):
    ranges = made(how)
    sum((rounded(ranges, name, 40 * VALUE) * VALUE).sum() for name in START).backward()
    reached = {name: bool((leaf.grad != 0).all()) for name, leaf in leaves(ranges).items()}
    assert all(reached.values()), reached


@BOTH
def test_gradients_of_equal_parts_average_to_those_of_the_whole(how):
    whole, parted = made(how), made(how)
    for name in ("layers.0.up", "layers.0.v", "final_norm"):
        (10 * rounded(whole, name)).square().mean().backward()
        for part in VALUE.split(2):
            ((10 * rounded(parted, name, part)).square().mean() / 3).backward()
    for name, leaf in leaves(whole).items():
        torch.testing.assert_close(leaves(parted)[name].grad, leaf.grad, rtol=1e-4, atol=1e-6)


def test_a_learned_range_moves_alike_whatever_its_size():
    ranges = {size: ActivationRanges({"x": QParams(size, 100, UINT8)}, CPU) for size in (1e-3, 1e3)}
    found = []
    for size, each in ranges.items():
        rounded(each, "x", 100 * size * VALUE).sum().backward()
        found.append([leaf.grad.item() / size for leaf in each.parameters("head").values()])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_gradients_are_those_of_lsq():
    """1 / √(size · qmax), with the size of one item: d/da = scale · d/dscale."""
    plain, learned = made(PUBLISHED), made()
    for ranges in (plain, learned):
        rounded(ranges, "final_norm", 900 * VALUE).sum().backward()
    found, wanted = (ranges.parameters("head") for ranges in (learned, plain))
    factor = (50 * 255) ** -0.5
    assert found["head.log_scale"].grad.item() == pytest.approx(5.0 * factor * wanted["head.scale"].grad.item())
    assert found["head.zero_point"].grad.item() == pytest.approx(128 * factor * wanted["head.offset"].grad.item())


def test_published_offsets_are_fractions_until_the_end():
    ranges = made(PUBLISHED)
    with torch.no_grad():
        leaves(ranges)["layers.0.offset"][0] += 0.3
        leaves(ranges)["head.offset"] -= 7.0
    exact = torch.floor(VALUE / 0.02 + 0.5) + 100.3
    torch.testing.assert_close(rounded(ranges, "layers.0.up"), (exact.clamp(0, 255) - 100.3) * 0.02)
    assert ranges.finished()["layers.0.up"].zero_point == 100
    assert ranges.finished()["final_norm"].zero_point == 0


def test_a_published_scale_that_training_sent_below_zero_stays_a_scale():
    ranges = made(PUBLISHED)
    with torch.no_grad():
        leaves(ranges)["layers.0.scale"] -= 1.0
    qparams = ranges.finished()["layers.0.o"]
    assert 0 < qparams.scale <= 1e-4
    assert torch.equal(rounded(ranges, "layers.0.o"), quantized.fake_quantize(VALUE, qparams))
