"""Learned and published ranges, which answer the same questions."""

from __future__ import annotations

import pytest
import torch

from mobilequant.models import quantized
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import INT16, UINT8
from mobilequant.solvers.learned.activation_range import ActivationRanges
from mobilequant.solvers.learned.published_range import PublishedRanges

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
BOTH = pytest.mark.parametrize("kind", [ActivationRanges, PublishedRanges], ids=["learned", "published"])


def made(kind):
    return kind(START, CPU, FIXED, CENTRED)


def leaves(ranges):
    return {name: leaf for part in ("layers.0", "head") for name, leaf in ranges.parameters(part).items()}


@BOTH
def test_it_starts_as_the_simulation(kind):
    ranges = made(kind)
    for name in ("layers.0.up", "layers.0.v", "layers.0.probs", "final_norm"):
        found = ranges.tap(name, VALUE).detach()
        torch.testing.assert_close(found, quantized.fake_quantize(VALUE, START[name]), rtol=1e-6, atol=1e-7)
    assert ranges.tap("nowhere", VALUE) is VALUE
    assert all(START[name].zero_point == each.zero_point for name, each in ranges.finished().items())


def test_sixteen_bits_pass_where_they_are_not_learned():
    assert made(ActivationRanges).tap("layers.0.o", VALUE) is VALUE
    assert not torch.equal(made(PublishedRanges).tap("layers.0.o", VALUE), VALUE)


@BOTH
def test_what_is_fixed_has_no_leaves_and_what_is_centred_one(kind):
    found = leaves(made(kind))
    count = {name: sum(leaf.startswith(f"{name}.") for leaf in found) for name in START}
    wide = 0 if kind is ActivationRanges else 2
    assert count == {"layers.0.up": 2, "layers.0.v": 1, "layers.0.probs": 0, "layers.0.o": wide, "final_norm": 2}
    assert not any(name in made(kind).finished() for name in FIXED)


@pytest.mark.parametrize("size", [1, 300, 40_000])
@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_what_is_finished_is_what_was_used(size, spread):
    ranges, generator = made(ActivationRanges), torch.Generator().manual_seed(int(10 * spread))
    with torch.no_grad():
        for leaf in leaves(ranges).values():
            leaf += 0.1 * spread * torch.randn((), generator=generator)
    value = VALUE.flatten()[:1].expand(size) if size == 1 else VALUE.repeat(size // 300, 1)
    finished = ranges.finished()
    assert finished["layers.0.v"].zero_point == 128
    for name, qparams in finished.items():
        assert UINT8.qmin <= qparams.zero_point <= UINT8.qmax
        scale, zero_point = (each.item() for each in ranges._now(name, value.numel()))
        assert (scale, zero_point) == (qparams.scale, qparams.zero_point)
        assert torch.equal(ranges.tap(name, value), quantized.fake_quantize(value, qparams))


@BOTH
def test_gradients_reach_every_leaf(kind):
    ranges = made(kind)
    sum((ranges.tap(name, 40 * VALUE) * VALUE).sum() for name in START).backward()
    reached = {name: leaf.grad is not None and bool(leaf.grad != 0) for name, leaf in leaves(ranges).items()}
    assert all(reached.values()), reached


@BOTH
def test_gradients_of_equal_parts_average_to_those_of_the_whole(kind):
    whole, parted = made(kind), made(kind)
    for name in ("layers.0.up", "layers.0.v", "final_norm"):
        (10 * whole.tap(name, VALUE)).square().mean().backward()
        for part in VALUE.split(2):
            ((10 * parted.tap(name, part)).square().mean() / 3).backward()
    reached = {name: leaf for name, leaf in leaves(whole).items() if leaf.grad is not None}
    assert len(reached) == 5
    for name, leaf in reached.items():
        torch.testing.assert_close(leaves(parted)[name].grad, leaf.grad, rtol=1e-4, atol=1e-6)


def test_a_learned_range_moves_alike_whatever_its_size():
    ranges = {size: ActivationRanges({"x": QParams(size, 100, UINT8)}, CPU, (), ()) for size in (1e-3, 1e3)}
    found = []
    for size, each in ranges.items():
        each.tap("x", 100 * size * VALUE).sum().backward()
        found.append([leaf.grad.item() / size for leaf in each.parameters("head").values()])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_published_offsets_are_fractions_until_the_end():
    ranges = made(PublishedRanges)
    with torch.no_grad():
        leaves(ranges)["layers.0.up.offset"] += 0.3
        leaves(ranges)["final_norm.offset"] -= 7.0
    exact = torch.floor(VALUE / 0.02 + 0.5) + 100.3
    torch.testing.assert_close(ranges.tap("layers.0.up", VALUE), (exact.clamp(0, 255) - 100.3) * 0.02)
    assert ranges.finished()["layers.0.up"].zero_point == 100
    assert ranges.finished()["final_norm"].zero_point == 0


def test_a_published_scale_that_training_sent_below_zero_stays_a_scale():
    ranges = made(PublishedRanges)
    with torch.no_grad():
        leaves(ranges)["layers.0.o.scale"] -= 1.0
    qparams = ranges.finished()["layers.0.o"]
    assert 0 < qparams.scale <= 1e-4
    assert torch.equal(ranges.tap("layers.0.o", VALUE), quantized.fake_quantize(VALUE, qparams))
