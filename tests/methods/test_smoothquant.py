from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.arch import point
from mobilequant.arch.pair import scale_pairs
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.methods.smoothquant.scale import SCALE_LIMIT, in_powers_of_two, smooth_scale
from mobilequant.models.decoder import forward
from mobilequant.models.tiny import tiny_model
from mobilequant.observe.collect import collect
from mobilequant.pipeline.method import Need
from mobilequant.pipeline.scheme import Scheme

ALL_PAIRS = ("norm_to_qkv", "norm_to_mlp", "norm_to_head", "up_to_down", "v_to_o", "q_to_k")


def _windows(model, count=4, length=10):
    return torch.randint(0, model.arch.vocab_size, (count, length), generator=torch.Generator().manual_seed(5))


def _smoothed(model, windows, **options):
    methods = [make("smoothquant", options), make("ranges", {"estimator": "minmax"}), make("rtn", {})]
    return run_methods(model, Scheme(8), methods, windows).model


def test_scale_follows_the_formula_up_to_a_common_factor():
    x, w = torch.tensor([1.0, 16.0, 4.0]), torch.tensor([4.0, 1.0, 0.25])
    for alpha in (0.0, 0.3, 0.5, 1.0):
        found = smooth_scale(x, w, alpha).scale
        expected = x.double() ** alpha / w.double() ** (1 - alpha)
        assert torch.allclose(found / found[0], expected / expected[0])
        assert found.log().mean().abs() < 1e-9


def test_weights_may_be_left_out_of_the_formula():
    x, w = torch.tensor([1.0, 16.0, 4.0]), torch.tensor([4.0, 1.0, 0.25])
    found = smooth_scale(x, w, 0.25, 0.0).scale
    assert torch.allclose(found / found[0], x.double() ** 0.25)
    assert torch.equal(smooth_scale(x, w, 0.3, 0.7).scale, smooth_scale(x, w, 0.3).scale)


def test_half_makes_both_sides_equally_hard():
    x, w = torch.rand(50) + 0.1, torch.rand(50) + 0.1
    scale = smooth_scale(x, w, 0.5).scale
    ratio = (x / scale) / (w * scale)
    assert torch.allclose(ratio, ratio[:1].expand(50))


def test_dead_channels_keep_scale_one_and_are_counted():
    found = smooth_scale(torch.tensor([0.0, 2.0, 8.0, 1.0]), torch.tensor([1.0, 0.0, 2.0, 1.0]), 0.5)
    assert found.dead_channels == 2
    assert found.scale[:2].tolist() == [1.0, 1.0]
    assert smooth_scale(torch.zeros(3), torch.ones(3), 0.5).scale.tolist() == [1.0, 1.0, 1.0]


def test_scales_are_clamped():
    found = smooth_scale(torch.tensor([1e-9, 1e12, 1.0, 1.0, 1.0]), torch.ones(5), 1.0).scale
    assert found.min() >= 1 / SCALE_LIMIT and found.max() <= SCALE_LIMIT


magnitude = st.floats(0.2, 5.0)


@given(st.lists(st.tuples(magnitude, magnitude), min_size=1, max_size=20))
def test_powers_of_two_follow_the_scale_and_start_at_one(channels):
    divided, multiplied = torch.tensor(channels, dtype=torch.float64).unbind(1)
    exact = smooth_scale(divided, multiplied, 0.5)
    found = in_powers_of_two(exact, divided, multiplied).scale
    assert torch.equal(found.log2(), found.log2().round()) and found.min() == 1
    ratio = (found / exact.scale).log2()
    assert ratio.max() - ratio.min() <= 1 + 1e-9

    def ranges(scale):
        return (divided / scale).max() * (multiplied * scale).max()

    assert ranges(found) <= ranges(torch.exp2(exact.scale.log2().floor())) * (1 + 1e-9)


def test_exponents_stay_within_ten_octaves():
    extreme = torch.tensor([1e-6, 1.0, 1e6])
    found = in_powers_of_two(smooth_scale(extreme, torch.ones(3), 1.0), extreme, torch.ones(3))
    assert found.scale.max() == 2**10


def test_a_tied_head_is_smoothed_in_powers_of_two():
    model = tiny_model("gemma").to(dtype=torch.float64)
    smoothed = _smoothed(model, _windows(model), alpha=1.0)
    scale = smoothed.tensors[point.COLUMN_SCALE]
    assert smoothed.arch.tied_head and torch.equal(scale.log2(), scale.log2().round()) and scale.max() > 1


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma2", "stablelm", "opt", "gpt_neox"])
def test_function_is_preserved_with_every_pair(family):
    model = tiny_model(family).to(dtype=torch.float64)
    windows = _windows(model)
    smoothed = _smoothed(model, windows, pairs=ALL_PAIRS)
    assert torch.allclose(forward(model, windows), forward(smoothed, windows), atol=1e-9)
    changed = sum(not torch.equal(model.tensors[name], smoothed.tensors[name]) for name in model.tensors)
    assert changed >= 5 * model.arch.num_layers


def test_smoothing_flattens_the_input_of_down():
    model = tiny_model("llama")
    up = model.tensors["layers.1.up.weight"].clone()
    up[3] *= 200
    model = model.with_tensors({"layers.1.up.weight": up})
    windows = _windows(model)
    need = Need("absmax", point.at(1, "product"))
    before = collect(model, windows, [need])[need]
    after = collect(_smoothed(model, windows), windows, [need])[need]
    assert after.max() / after.median() < 0.2 * before.max() / before.median()


def test_only_the_pairs_asked_for_are_folded():
    model = tiny_model("llama")
    smoothed = _smoothed(model, _windows(model), pairs=("v_to_o",))
    changed = {name for name in model.tensors if not torch.equal(model.tensors[name], smoothed.tensors[name])}
    assert changed == {f"layers.{layer}.{role}.weight" for layer in range(2) for role in "vo"}


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("beta", [None, 0.0])
def test_queries_and_keys_share_their_spread_whatever_alpha(alpha, beta):
    model = tiny_model("llama")
    key = model.tensors["layers.1.k.weight"].clone()
    key[2] *= 100
    model = model.with_tensors({"layers.1.k.weight": key})
    windows = _windows(model)
    needs = [Need("absmax", point.at(1, role)) for role in ("k_rope", "q_rope")]
    found = collect(_smoothed(model, windows, alpha=alpha, beta=beta, pairs=("q_to_k",)), windows, needs)
    spreads = [(channels.max() / channels.median()).item() for channels in found.values()]
    assert max(spreads) < 20 and max(spreads) / min(spreads) < 2


@pytest.mark.parametrize(("balance", "points"), [("all", ("up", "product")), ("input", ("product",))])
def test_needs_are_the_divided_activations_that_are_balanced(balance, points):
    arch = tiny_model("llama").arch
    needs = make("smoothquant", {"pairs": ("up_to_down",), "balance": balance}).needs(arch, Scheme(8))
    assert set(needs) == {Need("absmax", point.at(layer, role)) for layer in range(2) for role in points}
    every = make("smoothquant", {}).needs(arch, Scheme(8))
    assert len(every) == len(set(every)) >= len(scale_pairs(arch)) - arch.num_layers


def test_balancing_all_does_not_make_up_an_outlier_where_the_gate_is_closed():
    model = tiny_model("llama")
    gate = model.tensors["layers.1.gate.weight"].clone()
    gate[7] *= 1e-4  # act and product of this channel are tiny, up is like any other
    model = model.with_tensors({"layers.1.gate.weight": gate})
    windows = _windows(model)
    need = Need("absmax", point.at(1, "up"))
    spread = {}
    for balance in ("input", "all"):
        largest = collect(_smoothed(model, windows, balance=balance), windows, [need])[need]
        spread[balance] = (largest.max() / largest.median()).item()
    assert spread["input"] > 10 > 4 > spread["all"]
