from __future__ import annotations

import pytest
import torch

from mobilequant.models.tiny import tiny_model
from mobilequant.numerics.qtype import INT4, INT8
from mobilequant.solvers.learned.clipped_weight import UNCLIPPED, ClippedWeights, WeightFormat

NAME, PART = "layers.0.up", "layers.0"
MODEL = tiny_model("llama")
WEIGHT = MODEL.weight(NAME)
BY_FORMAT = pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
BY_GRAIN = pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "per tensor"])


def made(num_bits, symmetric, per_channel, highs=4.0, lows=4.0):
    piece = ClippedWeights(MODEL, {NAME: WeightFormat(num_bits, symmetric, per_channel)})
    leaves = piece.parameters(PART)
    with torch.no_grad():
        leaves[f"{NAME}.high"].fill_(highs)
        leaves[f"{NAME}.low"].fill_(lows)
    return piece


def direct(row, num_bits, symmetric, share_high, share_low):
    """One row in Python numbers, float64."""
    row = [number.item() for number in row.double()]
    high, low = share_high * max(row), share_low * min(row)
    if symmetric:
        least, most = {4: (-8, 7), 8: (-127, 127)}[num_bits]
        scale, zero_point = max(abs(high), abs(low)) / most, 0
    else:
        least, most = 0, 2**num_bits - 1
        scale = (high - low) / most
        zero_point = round(-low / scale)
    codes = [min(max(_half_up(number / scale) + zero_point, least), most) for number in row]
    return [(code - zero_point) * scale for code in codes]


def _half_up(number):
    return int((number + 0.5) // 1)


@BY_FORMAT
@BY_GRAIN
@pytest.mark.parametrize("num_bits", [4, 8])
def test_rows_are_rounded_inside_their_clipped_range(symmetric, per_channel, num_bits):
    piece = made(num_bits, symmetric, per_channel, highs=0.5, lows=1.5)
    found = piece.rewrite(MODEL.tensors, PART)[f"{NAME}.weight"].detach()
    rows = WEIGHT if per_channel else WEIGHT.reshape(1, -1)
    shares = [torch.tensor(value).sigmoid().item() for value in (0.5, 1.5)]
    wanted = torch.tensor([direct(row, num_bits, symmetric, *shares) for row in rows]).view_as(WEIGHT)
    close = torch.isclose(found, wanted, rtol=1e-4, atol=1e-6)
    assert close.float().mean() > 0.998  # the others lie on the edge between two codes


@BY_FORMAT
@BY_GRAIN
def test_gradients_reach_every_leaf(symmetric, per_channel):
    piece = made(4, symmetric, per_channel, highs=1.0, lows=1.0)
    piece.rewrite(MODEL.tensors, PART)[f"{NAME}.weight"].pow(3).sum().backward()
    grads = torch.cat([leaf.grad for leaf in piece.parameters(PART).values()], dim=1)
    assert (grads != 0).any(1).all()  # of a symmetric row only the side that reaches further


@pytest.mark.parametrize(("num_bits", "qtype"), [(4, INT4), (8, INT8)])
def test_what_is_finished_is_what_the_forward_pass_used(num_bits, qtype):
    piece = made(num_bits, True, True, highs=0.0, lows=0.0)
    finished = piece.finished(MODEL.tensors, PART)[NAME]
    assert finished.qtype == qtype
    assert finished.codes.min() == qtype.qmin
    assert torch.equal(finished.dequantize(), piece.rewrite(MODEL.tensors, PART)[f"{NAME}.weight"])


@pytest.mark.parametrize(("symmetric", "per_channel"), [(False, True), (True, False)])
def test_other_formats_have_no_integers(symmetric, per_channel):
    with pytest.raises(ValueError, match=NAME):
        made(4, symmetric, per_channel).finished(MODEL.tensors, PART)


def test_gains_of_a_norm_are_rounded_as_one_row():
    name = "layers.0.attn_norm"
    piece = ClippedWeights(MODEL, {name: WeightFormat(16, False, False)})
    found = piece.rewrite(MODEL.tensors, PART)[f"{name}.weight"]
    gain = MODEL.weight(name)
    inside = gain < 0.98 * gain.max()
    assert found.shape == gain.shape
    torch.testing.assert_close(found[inside], gain[inside], rtol=1e-4, atol=1e-4)
    assert found.max() < gain.max()


@BY_GRAIN
@BY_FORMAT
def test_unclipped_rows_keep_their_extremes_and_cannot_move(symmetric, per_channel):
    piece = ClippedWeights(MODEL, {NAME: WeightFormat(4, symmetric, per_channel)}, UNCLIPPED)
    found = piece.rewrite(MODEL.tensors, PART)[f"{NAME}.weight"]
    rows, found_rows = (each if per_channel else each.reshape(1, -1) for each in (WEIGHT, found))
    expected = direct(rows[0], 4, symmetric, 1.0, 1.0)
    torch.testing.assert_close(found_rows[0], torch.tensor(expected))
    found.square().sum().backward()
    assert all(not leaf.grad.any() for leaf in piece.parameters(PART).values())
