from __future__ import annotations

import pytest
import torch

from mobilequant.models.tiny import tiny_model
from mobilequant.numerics.qtype import INT8
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.group_scale import MAX_MULTIPLIER, integer_groups
from mobilequant.solvers.learned.weight_rounding import RoundedWeights, within_reach
from mobilequant.solvers.range_search import WeightRange
from mobilequant.solvers.rounded_row import covering
from mobilequant.solvers.rounding import nearest_codes

NAME, PART = "layers.0.down", "layers.0"
MODEL = tiny_model("llama")
WEIGHT = MODEL.weight(NAME)
PER_CHANNEL, GROUPS = Scheme(4), Scheme(4, group_size=16)
BY_GRAIN = pytest.mark.parametrize("scheme", [PER_CHANNEL, GROUPS, Scheme(8)], ids=["w4c", "w4g16", "w8c"])


def made(scheme, offset="none", weight_range="absmax", names=(NAME,), model=MODEL):
    scales = {}
    for name in names:
        weight = model.weight(name)
        rows = weight.reshape(-1, scheme.weight_group_size(name) or weight.shape[1])
        scales[name] = WeightRange(weight_range=weight_range).row_scale(rows, scheme.weight_qtype(name))
    return RoundedWeights(model, scheme, scales, offset), scales


def shaken(piece, part=PART, spread=0.3):
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for leaf in piece.parameters(part).values():
            leaf += spread * torch.randn(leaf.shape, generator=generator)
    return piece


def used(piece, scheme, name=NAME):
    """Codes and scales (…) as the forward pass has them."""
    weight = piece.rewrite(MODEL.tensors, PART)[f"{name}.weight"].detach()
    rows = piece._rows(name, WEIGHT)
    share = piece.parameters(PART)[f"{name}.share"].detach()
    scale = (covering(rows, scheme.weight_qtype(name)) * share.exp())[:, None]
    codes = torch.round(weight.view_as(rows) / scale)
    return codes.view_as(weight), scale.expand_as(rows).reshape(weight.shape)


def as_codes(codes, scales, scheme):
    """Codes (R, W) of the matrix as another method leaves them."""
    width = scheme.weight_group_size(NAME)
    scale = integer_groups(scales[NAME], len(WEIGHT), width)
    return scale.with_codes(codes.to(torch.int8).view_as(WEIGHT), scheme.weight_qtype(NAME))


@BY_GRAIN
@pytest.mark.parametrize("weight_range", ["absmax", "lp"])
def test_rounding_starts_from_codes(scheme, weight_range):
    """Neighbours are met, with room between weight and edge; of codes further off, the neighbour on their side is."""
    _, scales = made(scheme, "rounding", weight_range)
    qtype = scheme.weight_qtype(NAME)
    rows = WEIGHT.reshape(len(scales[NAME]), -1)
    places = rows / scales[NAME][:, None]
    up = torch.rand(rows.shape, generator=torch.Generator().manual_seed(8)) < 0.5
    sides = torch.where(up, places.floor() + 1, places.ceil() - 1).clamp(qtype.qmin, qtype.qmax)
    far = torch.where(up, sides + 1, sides - 1).clamp(qtype.qmin, qtype.qmax)
    clear = ((places - places.round()).abs() > 1e-4) & (places > qtype.qmin) & (places < qtype.qmax)
    for codes in (sides, far):
        piece = RoundedWeights(MODEL, scheme, scales, "rounding", {NAME: as_codes(codes, scales, scheme)})
        found = piece.rewrite(MODEL.tensors, PART)[f"{NAME}.weight"].detach().view_as(rows) / scales[NAME][:, None]
        torch.testing.assert_close(found[clear], sides[clear], rtol=1e-4, atol=1e-4)
    nearest = as_codes(nearest_codes(rows, scales[NAME][:, None], qtype), scales, scheme)
    piece = RoundedWeights(MODEL, scheme, scales, "rounding", {NAME: nearest})
    offsets = piece.parameters(PART)[f"{NAME}.offset"]
    assert offsets.abs().max() <= 0.1001 and (offsets == 0).float().mean() > 0.6


@pytest.mark.parametrize("scheme", [PER_CHANNEL, Scheme(8)], ids=["w4c", "w8c"])
def test_any_code_can_be_brought_into_reach(scheme):
    """And nothing else is moved."""
    _, scales = made(scheme)
    qtype, scale = scheme.weight_qtype(NAME), scales[NAME][:, None]
    shift = torch.randint(-3, 4, WEIGHT.shape, generator=torch.Generator().manual_seed(9))
    codes = (nearest_codes(WEIGHT, scale, qtype) + shift).clamp(qtype.qmin, qtype.qmax)
    given = as_codes(codes, scales, scheme)
    moved = within_reach(WEIGHT, given)
    piece = RoundedWeights(MODEL.with_tensors({f"{NAME}.weight": moved}), scheme, scales, "rounding", {NAME: given})
    found = piece.rewrite({f"{NAME}.weight": moved}, PART)[f"{NAME}.weight"]
    torch.testing.assert_close(found, codes * scale, rtol=1e-4, atol=1e-6)
    assert torch.equal(moved[shift == 0], WEIGHT[shift == 0]) and not torch.equal(moved, WEIGHT)


@BY_GRAIN
@pytest.mark.parametrize("offset", ["none", "rounding"])
@pytest.mark.parametrize("weight_range", ["absmax", "lp"])
def test_without_training_it_is_rounding_to_nearest(scheme, offset, weight_range):
    piece, scales = made(scheme, offset, weight_range)
    qtype = scheme.weight_qtype(NAME)
    rows = WEIGHT.reshape(len(scales[NAME]), -1)
    scale = scales[NAME][:, None]
    wanted = nearest_codes(rows, scale, qtype) * scale
    found = piece.rewrite(MODEL.tensors, PART)[f"{NAME}.weight"].detach().view_as(rows)
    edge = ((rows / scale) % 1 - 0.5).abs() < 1e-4  # the scale went through a logarithm
    torch.testing.assert_close(found[~edge], wanted[~edge], rtol=1e-5, atol=1e-7)
    assert edge.float().mean() < 0.01


@pytest.mark.parametrize("scheme", [PER_CHANNEL, Scheme(8)], ids=["w4c", "w8c"])
@pytest.mark.parametrize("offset", ["none", "rounding"])
def test_what_is_finished_is_what_the_forward_pass_used(scheme, offset):
    piece = shaken(made(scheme, offset)[0])
    finished = piece.finished(MODEL.tensors, PART)[NAME]
    assert finished.qtype == scheme.weight_qtype(NAME) and finished.group_multiplier is None
    assert torch.equal(finished.dequantize(), piece.rewrite(MODEL.tensors, PART)[f"{NAME}.weight"])


@pytest.mark.parametrize("offset", ["none", "rounding"])
def test_groups_are_finished_within_the_resolution_of_their_integers(offset):
    """A multiplier m ≤ 255 is the nearest to the ratio r ≥ 1 that is wanted, so |m / r − 1| ≤ 1 / (2 r). A code x that
    keeps its place on the finer grid moves by |x| / (2 r) at most, and by one more where it crosses an edge."""
    piece = shaken(made(GROUPS, offset)[0])
    finished = piece.finished(MODEL.tensors, PART)[NAME]
    codes, scale = used(piece, GROUPS)
    wanted = scale[:, ::16]
    ratio = wanted / wanted.amax(1, keepdim=True) * MAX_MULTIPLIER
    off = (finished.group_multiplier - ratio).abs()
    assert (off <= 0.5001).all()
    bound = 1 + 8 * (0.5 / ratio).repeat_interleave(16, dim=1)
    moved = (finished.codes - codes).abs()
    assert (moved <= bound).all()
    assert (moved > 0).float().mean() < 0.02


@BY_GRAIN
def test_bounded_offsets_move_a_code_by_one_at_most(scheme):
    piece = made(scheme, "rounding")[0]
    before = used(piece, scheme)[0]
    with torch.no_grad():
        offset = piece.parameters(PART)[f"{NAME}.offset"]
        offset += 3 * torch.randn(offset.shape, generator=torch.Generator().manual_seed(2))
    moved = (used(piece, scheme)[0] - before).abs()
    assert moved.max() == 1


@BY_GRAIN
@pytest.mark.parametrize(("offset", "kinds"), [("none", {"share"}), ("rounding", {"share", "offset"})])
def test_gradients_reach_every_leaf(scheme, offset, kinds):
    piece = shaken(made(scheme, offset)[0], spread=0.1)
    found = piece.rewrite(MODEL.tensors, PART)[f"{NAME}.weight"]
    (found * torch.randn(found.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    leaves = piece.parameters(PART)
    assert {name.rsplit(".", 1)[1] for name in leaves} == kinds
    assert all((leaf.grad != 0).float().mean() > 0.8 for leaf in leaves.values())


def test_a_folded_weight_keeps_its_share_of_what_covers_it():
    piece = shaken(made(PER_CHANNEL)[0])
    larger = {**MODEL.tensors, f"{NAME}.weight": 8 * WEIGHT}
    before, after = (piece.finished(tensors, PART)[NAME] for tensors in (MODEL.tensors, larger))
    assert torch.equal(before.codes, after.codes)
    torch.testing.assert_close(after.scale, 8 * before.scale)


def test_a_dead_row_gives_numbers():
    model = MODEL.with_tensors({f"{NAME}.weight": WEIGHT * (torch.arange(len(WEIGHT)) != 3)[:, None]})
    piece = made(PER_CHANNEL, "rounding", "lp", model=model)[0]
    found = piece.rewrite(model.tensors, PART)[f"{NAME}.weight"]
    found.square().sum().backward()
    assert (found[3] == 0).all()
    assert all(leaf.grad.isfinite().all() for leaf in piece.parameters(PART).values())
    assert piece.finished(model.tensors, PART)[NAME].scale.isfinite().all()


def test_a_head_has_eight_bits_and_no_groups():
    piece = made(GROUPS, names=("lm_head",))[0]
    finished = piece.finished(MODEL.tensors, "head")["lm_head"]
    assert finished.qtype == INT8 and finished.group_multiplier is None
    assert piece.parameters(PART) == {} and piece.finished(MODEL.tensors, PART) == {}
