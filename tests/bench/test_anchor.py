"""The script that repeats the published run, on a tiny model."""

from __future__ import annotations

import math

import pytest
import torch

import anchor
from mobilequant.arch import point
from mobilequant.methods.mobilequant import published_bits
from mobilequant.methods.mobilequant.faithful import last_residuals
from mobilequant.models.decoder import forward
from mobilequant.models.tiny import CONFIGS, tiny_model
from mobilequant.numerics.qtype import UINT8
from published.simulation import magnitudes, measured, perplexity, smooth, window_losses
from published.text import full_windows

WINDOWS = torch.randint(0, 96, (4, 12), generator=torch.Generator().manual_seed(2))
FLOAT_ROLES = {"embed", "attn_residual", "mlp_residual", "attn_post_norm", "mlp_post_norm"}
FLOAT_ROLES |= {"final_norm", "logits", "capped_logits"}


@pytest.mark.parametrize("family", CONFIGS)
def test_every_point_has_a_format_or_is_float(family):
    arch = tiny_model(family).arch
    formats = published_bits.activations(arch)
    points = set(point.all_points(arch))
    assert {point.role_of(name) for name in points - formats.keys()} <= FLOAT_ROLES
    assert not {point.role_of(name) for name in formats} & FLOAT_ROLES
    read = {point.norm_input(name) for name in points if point.role_of(name) in ("attn_norm", "mlp_norm")}
    assert formats.keys() - points == read


def test_the_bits_are_those_of_the_paper():
    arch = tiny_model("llama").arch
    formats = published_bits.activations(arch)
    wide = {name.removeprefix("layers.0.") for name, qtype in formats.items() if qtype != UINT8 and "layers.0" in name}
    assert wide == {"attn_norm.input", "mlp_norm.input", "scores", "probs", "o", "down"}
    for num_bits, symmetric in ((8, False), (4, True), (4, False)):
        found = published_bits.weights(arch, num_bits, symmetric=symmetric)
        linears = [name for name in point.all_linears(arch) if name != point.LM_HEAD]
        assert found.keys() == {*linears, *(point.at(i, norm) for i in (0, 1) for norm in ("attn_norm", "mlp_norm"))}
        assert {(found[name].num_bits, found[name].symmetric) for name in linears} == {(num_bits, symmetric)}
        assert found["layers.0.down"].per_channel and found["layers.0.q"].per_channel == (num_bits == 4)


@pytest.mark.parametrize("setting", ["w8a8", "w4a8-sym", "w4a8-asym"])
def test_a_setting_is_trained_and_scored(setting):
    start = measured(smoothed(tiny_model("llama")), WINDOWS)
    hidden = last_residuals(start.model, None, WINDOWS)
    found = anchor.run(setting, 2, start, WINDOWS, hidden, WINDOWS)
    assert len(found["loss"]) == 2 and all(math.isfinite(loss) for loss in found["loss"])
    real = float_perplexity(start.model)
    assert abs(found["ppl_wiki_all"] / real - 1) < (0.05 if setting == "w8a8" else 0.5)
    assert found["ppl_wiki_all"] != real


def test_a_training_survives_a_kill_and_tells_its_pace(tmp_path, monkeypatch):
    monkeypatch.setattr(anchor, "_WARM_UP", 1)
    start = measured(smoothed(tiny_model("llama")), WINDOWS)
    hidden = last_residuals(start.model, None, WINDOWS)
    given = ("w4a8-sym", 2, start, WINDOWS, hidden, WINDOWS)
    alone = anchor.run(*given)
    assert alone["s_per_step"] > 0
    kept = anchor.Memory(tmp_path, "w4a8-sym-2", "cpu")
    assert anchor.run(*given, kept)["ppl_wiki_all"] == alone["ppl_wiki_all"]
    again = anchor.run(*given, kept)
    assert (again["ppl_wiki_all"], again["loss"]) == (alone["ppl_wiki_all"], alone["loss"])
    assert again["s_per_step"] is None  # no step was left to do


def test_smoothing_changes_no_perplexity_and_the_score_is_the_direct_one():
    model = tiny_model("llama")
    assert not torch.equal(smoothed(model).weight("layers.0.q"), model.weight("layers.0.q"))
    losses = torch.nn.functional.cross_entropy(forward(model, WINDOWS)[:, :-1].flatten(0, 1), WINDOWS[:, 1:].flatten())
    assert float_perplexity(model) == pytest.approx(losses.exp().item(), rel=1e-4)
    assert float_perplexity(smoothed(model)) == pytest.approx(losses.exp().item(), rel=1e-4)


def test_windows_tile_a_speech():
    assert full_windows(list(range(7)), 3) == [[0, 1, 2], [3, 4, 5]]


def test_windows_of_another_run_are_refused():
    with pytest.raises(SystemExit, match="not those of the published run"):
        anchor.check_windows(WINDOWS, WINDOWS)


def smoothed(model):
    return smooth(model, magnitudes(model, WINDOWS))


def float_perplexity(model):
    return perplexity(window_losses(model, None, WINDOWS))
