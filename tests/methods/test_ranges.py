from __future__ import annotations

import pytest
import torch

from mobilequant.arch import point
from mobilequant.methods.ranges.method import PROBS, attention_operands
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import tiny_model
from mobilequant.numerics.qtype import INT16, UINT8
from mobilequant.pipeline.scheme import Scheme

FAMILIES = ["llama", "qwen3", "gemma2", "gpt2", "gpt_neox"]


def _windows(model, count=4, length=10):
    return torch.randint(0, model.arch.vocab_size, (count, length), generator=torch.Generator().manual_seed(5))


def _quantized(model, scheme=None, prefix=(), **options):
    methods = [make("ranges", options), make("rtn", {})]
    return run_methods(model, scheme or Scheme(8), methods, _windows(model), prefix=prefix)


def _extremes(model, windows, prefix=None):
    seen: dict[str, tuple[float, float]] = {}

    def tap(name, value):
        low, high = seen.get(name, (0.0, 0.0))
        seen[name] = min(low, value.min().item()), max(high, value.max().item())
        return value

    for window in windows:
        forward(model, window[None], tap=tap, prefix=prefix)
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_every_point_gets_the_format_that_the_graph_expects(family):
    model = tiny_model(family)
    scheme = Scheme(8, sixteen_bit=frozenset({point.at(1, point.down_input(model.arch))}))
    found = _quantized(model, scheme, estimator="percentile").activations
    assert set(found) == set(point.all_points(model.arch))
    for name, qparams in found.items():
        assert qparams.qtype == scheme.activation_qtype(name)
        if point.role_of(name) == "probs":
            assert qparams == PROBS[UINT8]
        elif qparams.qtype == INT16:
            assert qparams.zero_point == 0
        elif name in attention_operands(model.arch):
            assert (qparams.zero_point, qparams.qtype) == (128, UINT8)


@pytest.mark.parametrize("family", FAMILIES)
def test_minmax_covers_everything_seen_and_wide_points_keep_a_margin(family):
    model = tiny_model(family)
    found = _quantized(model, estimator="minmax", wide_margin=1.5).activations
    seen = _extremes(model, _windows(model))
    for name, qparams in found.items():
        low, high = seen[name]
        reach = (qparams.qtype.qmax - qparams.zero_point) * qparams.scale
        depth = (qparams.qtype.qmin - qparams.zero_point) * qparams.scale
        if name.endswith("probs"):
            continue
        slack = 0.51 * qparams.scale
        assert depth <= low + slack and reach >= high - slack, name
        if qparams.qtype == INT16:
            assert reach >= 1.49 * max(-low, high), name


def test_mse_is_never_worse_than_minmax_on_what_it_saw():
    model = tiny_model("llama")
    windows = _windows(model)
    errors = {}
    for estimator in ("minmax", "mse"):
        tap = _quantized(model, estimator=estimator).tap()
        errors[estimator] = {}

        def measure(name, value, into=errors[estimator], tap=tap):
            into[name] = into.get(name, 0.0) + (tap(name, value) - value).square().sum().item()
            return value

        for window in windows:
            forward(model, window[None], tap=measure)
    for name, error in errors["mse"].items():
        assert error <= 1.1 * errors["minmax"][name] + 1e-12, name


def test_embedding_range_covers_tokens_that_calibration_never_saw():
    model = tiny_model("llama")
    table = model.tensors["embed.weight"].clone()
    table[95] = 9.0
    windows = _windows(model) % 90
    quantized = run_methods(
        model.with_tensors({"embed.weight": table}), Scheme(8), [make("ranges", {}), make("rtn", {})], windows
    )
    embed = quantized.activations["embed"]
    assert embed.scale * embed.qtype.qmax >= 9.0


@pytest.mark.parametrize("estimator", ["minmax", "percentile", "mse", "lp"])
def test_cache_ranges_cover_the_constant_prefix(estimator):
    model = tiny_model("llama")
    embedding = model.tensors["embed.weight"].clone()
    embedding[1] *= 40.0  # the prefix token, whose keys and values are unlike those of other tokens
    gain = model.tensors["layers.0.attn_norm.weight"]
    model = model.with_tensors({"embed.weight": embedding, "layers.0.attn_norm.weight": gain})
    quantized = _quantized(model, prefix=(1, 1), estimator=estimator)
    prefix = compute_prefix(model, (1, 1))
    for layer in range(model.arch.num_layers):
        for name, stored in (
            (point.key_point(model.arch, layer), prefix.keys[layer]),
            (point.at(layer, "v"), prefix.values[layer]),
        ):
            qparams = quantized.activations[name]
            assert 127 * qparams.scale >= stored.abs().max().item() * (1 - 1e-6), name
    held = quantized.simulated_prefix()
    assert torch.allclose(held.values[0], prefix.values[0], atol=quantized.activations["layers.0.v"].scale)


def _residual_reach(loud):
    """The reach of a residual over its median token, with one of 96 tokens ``loud`` times the others."""
    model = tiny_model("llama")
    table = torch.ones_like(model.tensors["embed.weight"])
    table[3] *= loud
    silenced = [f"layers.{layer}.{linear}.weight" for layer in range(2) for linear in ("o", "down")]
    model = model.with_tensors({"embed.weight": table, **{name: 0.0 * model.tensors[name] for name in silenced}})
    windows = torch.arange(96).view(8, 12)
    quantized = run_methods(model, Scheme(8), [make("ranges", {"residual_limit": 16.0}), make("rtn", {})], windows)
    residual = quantized.activations["layers.0.mlp_residual"]
    return residual.scale * residual.qtype.qmax


def test_a_residual_ends_at_its_limit_but_sinks_are_never_cut():
    assert _residual_reach(loud=10.0) == pytest.approx(11.0)  # extremes and margin
    assert _residual_reach(loud=40.0) == pytest.approx(16.0)  # the limit
    assert _residual_reach(loud=70.0) == pytest.approx(77.0)  # a sink that no prefix holds


def test_sixteen_bit_probabilities_are_fixed_too():
    model = tiny_model("llama")
    found = _quantized(model, Scheme(8, sixteen_bit=frozenset({"layers.0.probs"}))).activations
    assert found["layers.0.probs"] == PROBS[INT16] and found["layers.1.probs"] == PROBS[UINT8]


def test_sixteen_bit_product_is_symmetric():
    model = tiny_model("llama")
    name = point.at(0, "product")
    narrow, wide = _quantized(model), _quantized(model, Scheme(8, sixteen_bit=frozenset({name})))
    assert narrow.activations[name].qtype == UINT8
    assert (wide.activations[name].qtype, wide.activations[name].zero_point) == (INT16, 0)
    assert wide.activations[name].scale < narrow.activations[name].scale / 50
