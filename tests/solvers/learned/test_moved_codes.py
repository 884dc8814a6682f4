from __future__ import annotations

import pytest
import torch

from mobilequant.methods.rtn.method import round_weight
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.method import Unit
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.learned.moved_codes import MovedCodes
from mobilequant.solvers.range_search import WeightRange

NAME, PART = "layers.1.up", "layers.1"
MODEL = tiny_model("llama")


@pytest.mark.parametrize("scheme", [Scheme(4), Scheme(4, group_size=16), Scheme(8)], ids=["w4c", "w4g16", "w8c"])
def test_codes_move_by_whole_steps_and_stay_in_their_format(scheme):
    start = round_weight(Unit(NAME, MODEL.arch, MODEL.tensors, {}), scheme, WeightRange())
    piece = MovedCodes({NAME: start})
    leaves = piece.parameters(PART)
    assert list(leaves) == [f"{NAME}.offset", f"{NAME}.row_scale"] and piece.parameters("head") == {}
    assert torch.equal(piece.rewrite(MODEL.tensors, PART)[f"{NAME}.weight"], start.dequantize())

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        leaves[f"{NAME}.offset"] += 2 * torch.randn(start.codes.shape, generator=generator)
        leaves[f"{NAME}.row_scale"] += 0.1 * torch.randn(len(start.scale), generator=generator)
    found = piece.rewrite(MODEL.tensors, PART)[f"{NAME}.weight"]
    finished = piece.finished(MODEL.tensors, PART)[NAME]
    wanted = (start.codes + leaves[f"{NAME}.offset"].detach() + 0.5).floor()
    assert torch.equal(finished.codes.float(), wanted.clamp(start.qtype.qmin, start.qtype.qmax))
    assert finished.group_multiplier is start.group_multiplier
    torch.testing.assert_close(finished.dequantize(), found.detach())

    (found * torch.randn(found.shape, generator=generator)).sum().backward()
    inside = wanted == wanted.clamp(start.qtype.qmin, start.qtype.qmax)
    assert torch.equal(leaves[f"{NAME}.offset"].grad != 0, inside)
    assert (leaves[f"{NAME}.row_scale"].grad != 0).all()
