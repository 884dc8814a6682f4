from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from mobilequant.arch import point
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import tiny_model
from mobilequant.observe.collect import collect
from mobilequant.observe.outlier import token_needs, token_outliers
from mobilequant.observe.sink import find_prefix, search_prefix

LOUD = 17
OPEN, THRESHOLD = 400.0, 800.0


def _model(*, loud_position=None, loud_token=None):
    """GPT-2 with one hidden unit that fires only where channel 0 of the residual dominates its token.

    A position that is loud models an attention sink: whoever stands first, be it a prefix, takes the outlier away.
    """
    model = tiny_model("gpt2")
    tensors = {name: tensor.clone() for name, tensor in model.tensors.items()}
    for name in ("embed.weight", "positions.weight"):
        tensors[name][:, 0] = 0.0
    for name in ("layers.0.o", "layers.0.mlp_norm"):
        tensors[f"{name}.bias"][0] = 0.0
    tensors["layers.0.o.weight"][0] = 0.0
    tensors["layers.0.up.weight"][0] = 0.0
    tensors["layers.0.up.weight"][0, 0] = OPEN
    tensors["layers.0.up.bias"][0] = -THRESHOLD
    if loud_position is not None:
        tensors["positions.weight"][loud_position, 0] = 30.0
    if loud_token is not None:
        tensors["embed.weight"][loud_token, 0] = 30.0
    tensors["lm_head.weight"] = tensors["embed.weight"]
    return replace(model, tensors=tensors)


def _windows(count=6, length=12):
    return torch.randint(20, 96, (count, length), generator=torch.Generator().manual_seed(3))


def test_ordinary_tokens_need_no_prefix():
    search = search_prefix(_model(), _windows(), max_tokens=4)
    assert search.tokens == ()
    assert len(search.measures) == 1
    assert search.measures[0].count == 0 and search.measures[0].ratio < 64


def test_outlier_record_names_point_and_places():
    model, windows = _model(loud_token=LOUD), _windows()
    windows[2, 5] = LOUD
    found = token_outliers(collect(model, windows, token_needs(model.arch)), model.arch)
    assert found[0].point == point.at(0, "act")
    assert found[0].positions == ((2, 5),)
    assert found[0].ratio > 64


def test_outliers_of_the_first_position_ask_for_a_token_to_take_it():
    search = search_prefix(_model(loud_position=0), _windows(), max_tokens=4)
    assert len(search.tokens) == 1
    before, after = search.measures
    assert before.places == {(window, 0) for window in range(4)}
    assert len(before.loud_starts) == before.starts
    assert before.ratio > 64 > after.ratio
    assert after.count == 0


def test_of_tokens_that_calm_alike_the_one_behind_which_the_text_is_predicted_best_is_taken():
    model, windows = _model(loud_position=0), _windows()

    def loss(token):
        logits = forward(model, windows[:4], prefix=compute_prefix(model, (token,)))[:, :-1]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:4, 1:].flatten()).item()

    frequent = [token for token, _ in Counter(windows[:4].flatten().tolist()).most_common(12)]
    first = [windows[window, 0].item() for window in range(4)]
    assert find_prefix(model, windows, max_tokens=4) == (min({model.arch.bos_token, *first, *frequent}, key=loss),)


def test_a_token_that_removes_no_outliers_is_not_kept():
    windows = _windows()
    windows[:, 0] = LOUD  # loud wherever it stands
    search = search_prefix(_model(loud_token=LOUD), windows, max_tokens=4)
    assert search.tokens == ()
    assert search.measures[-1].ratio > 64


def test_a_loud_bos_is_quiet_once_it_is_the_prefix():
    windows = _windows()
    windows[:, 0] = LOUD
    model = _model(loud_token=LOUD)
    model = replace(model, arch=replace(model.arch, bos_token=LOUD, add_bos=True))
    search = search_prefix(model, windows, max_tokens=4)
    assert search.tokens == (LOUD,)
    assert search.measures[0].places == {(window, 0) for window in range(4)}
    assert search.measures[-1].count == 0


def test_the_search_begins_behind_a_bos_that_is_always_there():
    model = _model()
    model = replace(model, arch=replace(model.arch, add_bos=True))
    assert find_prefix(model, _windows(), max_tokens=2) == (model.arch.bos_token,)


def test_an_outlier_of_the_residual_alone_is_found():
    model = tiny_model("llama")
    table = model.tensors["embed.weight"].clone()
    table[LOUD, 5] = 1e4
    windows = _windows()
    windows[2, 5] = LOUD
    model = model.with_tensors({"embed.weight": table})
    measure = search_prefix(model, windows, max_tokens=0).measures[0]
    assert (2, 5) in measure.places
    assert {outlier.point.rsplit(".", 1)[-1] for outlier in measure.outliers if outlier.positions} == {"mlp_residual"}


def test_starts_that_stay_loud_behind_bos_ask_for_a_second_token():
    model = _model(loud_position=0)
    tensors = {name: tensor.clone() for name, tensor in model.tensors.items()}
    tensors["layers.0.mlp_norm.weight"][0] = 1.0
    tensors["positions.weight"][1, 0] = 1.2  # neither the second position …
    tensors["embed.weight"][20:35, 0] = 1.2  # … nor these tokens alone open the unit, but together they do
    tensors["lm_head.weight"] = tensors["embed.weight"]
    model, windows = replace(model, tensors=tensors), _windows()
    model = replace(model, arch=replace(model.arch, add_bos=True))
    windows[:, 0] = model.arch.bos_token
    search = search_prefix(model, windows, max_tokens=4)
    assert search.tokens[0] == model.arch.bos_token and len(search.tokens) == 2
    none, bos, both = search.measures
    assert len(none.loud_starts) == none.starts
    assert set(bos.loud_starts) <= set(range(20, 35)) and bos.loud_starts
    assert both.count == 0


def test_zero_tokens_allowed_means_none_are_searched():
    assert find_prefix(_model(loud_position=0), _windows(), max_tokens=0) == ()


def test_more_than_four_tokens_are_refused():
    with pytest.raises(ValueError, match="0 to 4"):
        search_prefix(_model(), _windows(), max_tokens=5)
