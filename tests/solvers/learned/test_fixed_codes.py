from __future__ import annotations

import pytest
import torch

from mobilequant.methods.rtn.method import round_weight
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.method import Unit
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.learned.fixed_codes import FixedCodes
from mobilequant.solvers.range_search import WeightRange

NAME, PART = "layers.1.up", "layers.1"
MODEL = tiny_model("llama")


@pytest.mark.parametrize("scheme", [Scheme(4), Scheme(4, group_size=16)], ids=["per channel", "groups"])
def test_codes_stay_and_scales_move(scheme):
    start = round_weight(Unit(NAME, MODEL.arch, MODEL.tensors, {}), scheme, WeightRange())
    piece = FixedCodes({NAME: start})
    (leaf,) = piece.parameters(PART).values()
    assert list(piece.parameters(PART)) == [f"{NAME}.row_scale"] and piece.parameters("head") == {}
    assert torch.equal(piece.rewrite(MODEL.tensors, PART)[f"{NAME}.weight"], start.dequantize())
    with torch.no_grad():
        leaf += 0.1 * torch.randn(leaf.shape, generator=torch.Generator().manual_seed(0))
    rewritten = piece.rewrite(MODEL.tensors, PART)
    assert not rewritten[f"{NAME}.weight"].requires_grad
    found = rewritten[f"{NAME}.weight"] * rewritten[f"{NAME}.output_factor"][:, None]
    finished = piece.finished(MODEL.tensors, PART)[NAME]
    assert torch.equal(finished.codes, start.codes)
    assert finished.group_multiplier is start.group_multiplier
    torch.testing.assert_close(finished.scale, start.scale * leaf.detach().exp())
    torch.testing.assert_close(finished.dequantize(), found.detach())
    found.square().sum().backward()
    assert (leaf.grad != 0).all()
