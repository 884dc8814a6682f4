import math

import pytest
import torch

from mobilequant.arch import point, registry
from mobilequant.integer.lower import lower
from mobilequant.integer.provable import provable
from mobilequant.methods.registry import make
from mobilequant.methods.rotate_keys.angle import best_angles
from mobilequant.methods.run import run_methods
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import tiny_model
from mobilequant.observe.plane import DIRECTIONS, PlaneReachCollector
from mobilequant.pipeline.scheme import Scheme

WINDOWS = torch.randint(0, 96, (4, 20), generator=torch.Generator().manual_seed(7))
PREFIX = (1, 5)
NO_PLANES = ("gpt2", "opt", "qwen3", "gemma3_text")
BALANCED = ("smoothquant", {"pairs": ("q_to_k",)})


def quantized(model, *methods, prefix=PREFIX):
    made = [make(*method) for method in (*methods, ("ranges", {"estimator": "minmax"}), ("rtn", {}))]
    return run_methods(model, Scheme(8), made, WINDOWS, prefix=prefix)


def turned(model, **options):
    return quantized(model, ("rotate_keys", {}), **options).model


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("family", [each for each in registry.model_types() if each not in NO_PLANES])
def test_the_function_is_unchanged(family):
    model = tiny_model(family).to(dtype=torch.float64)
    changed = turned(model)
    assert relative(forward(changed, WINDOWS), forward(model, WINDOWS)) < 1e-9
    found, expected = (forward(each, WINDOWS, prefix=compute_prefix(each, PREFIX)) for each in (changed, model))
    assert relative(found, expected) < 1e-9
    moved = {name for name in model.tensors if not torch.equal(model.tensors[name], changed.tensors[name])}
    assert {point.role_of(name.rpartition(".")[0]) for name in moved} == {"q", "k"}


@pytest.mark.parametrize("family", NO_PLANES)
def test_without_planes_everything_stays_and_that_is_said(family, caplog):
    model = tiny_model(family)
    changed = turned(model)
    assert all(torch.equal(tensor, changed.tensors[name]) for name, tensor in model.tensors.items())
    reason = "normalizes heads" if model.arch.qk_norm else "has no RoPE"
    assert f"of {model.arch.num_layers} layers are not rotated" in caplog.text and reason in caplog.text


def model_with_biased_keys(plane):
    """Keys with one huge dimension in a plane of every head, as the biases of Qwen make them."""
    model = tiny_model("qwen2")
    bias = model.bias("layers.0.k").clone()
    bias.view(model.arch.num_kv_heads, model.arch.head_dim)[:, plane] = 40.0
    return model.with_tensors({"layers.0.k.bias": bias})


def noise(found, exact, name):
    """Noise over signal of one point, rounded to its codes."""
    seen = {}
    forward(exact, WINDOWS, prefix=compute_prefix(exact, PREFIX), tap=lambda at, value: seen.setdefault(at, value))
    value = seen[name]
    return ((found.tap()(name, value) - value).square().sum() / value.square().sum()).item()


def test_a_huge_dimension_is_shared_and_rounded_with_less_noise():
    """40 in one dimension becomes 28 in two; in the slowest plane, that stays so behind RoPE."""
    slowest = model_with_biased_keys(plane=5)
    before, after = (quantized(slowest, *methods, BALANCED) for methods in ((), (("rotate_keys", {}),)))
    for role in ("k", "k_rope"):
        name = point.at(0, role)
        assert after.activations[name].scale < 0.85 * before.activations[name].scale
        assert noise(after, after.model, name) < 0.6 * noise(before, before.model, name)


def test_scores_of_rounded_keys_are_closer():
    model = model_with_biased_keys(plane=5)
    errors = []
    for methods in ((), (("rotate_keys", {}),)):
        found = quantized(model, *methods, BALANCED)
        rounded, seen, exact = found.tap(), {}, {}

        def only_keys(name, value, rounded=rounded, seen=seen):
            value = rounded(name, value) if point.role_of(name) in ("k", "k_rope") else value
            return seen.setdefault(name, value)

        forward(found.model, WINDOWS, tap=only_keys)
        forward(found.model, WINDOWS, tap=lambda name, value, exact=exact: exact.setdefault(name, value))
        errors.append((seen["layers.0.scores"] - exact["layers.0.scores"]).square().mean().item())
    assert errors[1] < 0.7 * errors[0]


def test_nothing_is_lost_where_nothing_can_be_won():
    """Planes that reach as far in all directions keep their angle: the reach of no point grows by the choice."""
    model = tiny_model("llama")
    found, changed = quantized(model), quantized(model, ("rotate_keys", {}))
    products = []
    for each in (found, changed):
        names = [point.at(0, role) for role in ("q", "k", "q_rope", "k_rope")]
        products.append(math.prod(each.activations[name].scale for name in names))
    assert products[1] < 1.1 * products[0]
    disc = best_angles([torch.ones(2, 3, DIRECTIONS)])
    assert not disc.angle.any() and (disc.gain == 1).all()


def test_the_angle_is_that_of_the_least_reach():
    """A narrow plane along 30° ± its width: turned to lie along the diagonal, both dimensions reach equally far."""
    along = torch.randn(1, 4000, 1, generator=torch.Generator().manual_seed(3))
    values = torch.cat((along * math.cos(math.pi / 6), along * math.sin(math.pi / 6)), dim=-1)
    collector = PlaneReachCollector(2, 1)
    collector.see(values)
    found = best_angles([collector.result()])
    angle, step = found.angle.item(), 0.5 * math.pi / (DIRECTIONS // 2)
    assert abs(angle - math.pi / 12) <= step / 2 + 1e-9  # 30° + 15° = 45°
    turned_values = torch.stack(
        (
            values[..., 0] * math.cos(angle) - values[..., 1] * math.sin(angle),
            values[..., 0] * math.sin(angle) + values[..., 1] * math.cos(angle),
        )
    )
    assert turned_values.abs().max() == pytest.approx(values.abs().max().item() / found.gain.item(), rel=1e-5)


def test_integers_follow():
    found = provable(quantized(model_with_biased_keys(plane=0), ("rotate_keys", {}), BALANCED))
    assert lower(found).float_ops() == []
