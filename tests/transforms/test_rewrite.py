"""Rewrites a part at a time are the transforms of the whole model, to the bit."""

import pytest
import torch

from mobilequant.arch import point
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.method import Rewrite
from mobilequant.transforms.fold_gain import fold_gains
from mobilequant.transforms.orthogonal import random_orthogonal
from mobilequant.transforms.residual import scale_residual
from mobilequant.transforms.rewrite import changes, rewritten
from mobilequant.transforms.rms_norm import to_rms_norm
from mobilequant.transforms.rotation import rotate_residual

ROTATION = random_orthogonal(48, torch.Generator().manual_seed(0))


def equal(first, second):
    assert first.arch == second.arch and first.tensors.keys() == second.tensors.keys()
    return all(torch.equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items())


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "opt"])
def test_a_rotation_of_parts_is_that_of_the_model(family):
    model = tiny_model(family)
    whole = model.with_tensors(fold_gains(model.tensors, model.arch))
    rewrites = [Rewrite("fold_gains")]
    if model.arch.norm == "layer":
        whole = whole.with_tensors(to_rms_norm(whole.tensors, whole.arch)).with_rms_norms()
        rewrites.append(Rewrite("to_rms_norm"))
    whole = whole.with_tensors(rotate_residual(whole.tensors, whole.arch, ROTATION))
    found = rewritten(model, [*rewrites, Rewrite("rotate_residual", factor=ROTATION)])
    assert equal(found.with_rms_norms(), whole)


def test_a_factor_of_the_residual_is_remembered_once():
    model, scale = tiny_model("llama"), torch.exp2(torch.arange(48) % 3)
    whole = model.with_tensors(scale_residual(model.tensors, model.arch, scale))
    assert equal(rewritten(model, [Rewrite("scale_residual", factor=scale)]), whole)


def test_no_change_reaches_beyond_a_part():
    model = tiny_model("llama")
    for rewrite in (Rewrite("fold_gains"), Rewrite("rotate_residual", factor=ROTATION)):
        touched = [{point.part_of(name) for name in change(model.tensors)} for change in changes(rewrite, model.arch)]
        assert touched == [{"layers.0"}, {"layers.1"}, {"head"}]


def test_a_rewrite_without_its_factor_is_refused():
    with pytest.raises(ValueError, match="'rotate_residual' needs a factor"):
        changes(Rewrite("rotate_residual"), tiny_model("llama").arch)
