"""Every change of basis leaves the function unchanged, on every family that it can be applied to."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilequant.arch import point, registry
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import tiny_model
from mobilequant.transforms.fold_gain import fold_gains, norm_readers
from mobilequant.transforms.hadamard import random_hadamard
from mobilequant.transforms.orthogonal import random_orthogonal
from mobilequant.transforms.residual import scale_residual
from mobilequant.transforms.rms_norm import to_rms_norm
from mobilequant.transforms.rotation import (
    keys_in_basis,
    residual_in_basis,
    rotate_keys,
    rotate_residual,
    rotate_values,
    values_in_basis,
)

TOLERANCE = 1e-9  # of the largest logit
TOKENS = torch.randint(0, 96, (2, 12), generator=torch.Generator().manual_seed(1))
VARIANTS = [
    *((name, {}) for name in registry.model_types()),
    ("llama", {"num_key_value_heads": 1}),
    ("llama", {"partial_rotary_factor": 0.5, "num_key_value_heads": 4}),
    ("stablelm", {"use_parallel_residual": True, "num_key_value_heads": 2}),
    ("gpt_neox", {"use_parallel_residual": False}),
]
POST_NORMS = ("gemma2", "gemma3_text")
HEAD_NORMS = ("qwen3", "gemma3_text")
every_variant = pytest.mark.parametrize(("model_type", "overrides"), VARIANTS, ids=str)
every_rotatable = pytest.mark.parametrize(
    ("model_type", "overrides"), [each for each in VARIANTS if each[0] not in POST_NORMS], ids=str
)


def double_model(model_type, overrides=None):
    return tiny_model(model_type, seed=3, **overrides or {}).to(dtype=torch.float64)


def random(*shape, seed=0, spread=1.0):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(width, seed=0):
    return random_orthogonal(width, torch.Generator().manual_seed(seed))


def assert_same_function(model, changed):
    prefixes = [(None, None), (compute_prefix(model, (1, 5)), compute_prefix(changed, (1, 5)))]
    for before, after in prefixes:
        expected, found = forward(model, TOKENS, prefix=before), forward(changed, TOKENS, prefix=after)
        assert ((found - expected).abs().max() / expected.abs().max()).item() < TOLERANCE


def rotatable(model):
    """Gains folded, RMSNorms only."""
    model = model.with_tensors(fold_gains(model.tensors, model.arch))
    if model.arch.norm == "layer":
        model = model.with_tensors(to_rms_norm(model.tensors, model.arch)).with_rms_norms()
    return model


@every_variant
def test_norms_that_read_the_residual_lose_their_gains(model_type, overrides):
    model = double_model(model_type, overrides)
    plain = model.with_tensors(fold_gains(model.tensors, model.arch))
    assert_same_function(model, plain)
    assert not plain.arch.tied_head
    for norm in norm_readers(model.arch):
        assert (plain.weight(norm) == 1).all()
        assert plain.bias(norm) is None or not plain.bias(norm).any()


@pytest.mark.parametrize("model_type", ["opt", "gpt2", "gpt_neox", "stablelm"])
def test_layer_norms_become_rms_norms(model_type):
    model = double_model(model_type)
    changed = rotatable(model)
    assert_same_function(model, changed)
    assert changed.arch.norm == "rms"
    assert not any(name.endswith("norm.bias") for name in changed.tensors)


@every_rotatable
def test_the_residual_may_be_rotated(model_type, overrides):
    model = double_model(model_type, overrides)
    plain = rotatable(model)
    rotated = plain
    for seed in (1, 2):  # twice: the second comes on top of the first
        rotation = orthogonal(model.arch.hidden_size, seed)
        rotated = rotated.with_tensors(rotate_residual(rotated.tensors, rotated.arch, rotation))
    assert_same_function(model, rotated)
    before, after = (residual_points(each) for each in (plain, rotated))
    turn = orthogonal(model.arch.hidden_size, 1) @ orthogonal(model.arch.hidden_size, 2)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value @ turn, rtol=1e-9, atol=1e-9)


def residual_points(model):
    seen = {}
    forward(model, TOKENS, tap=lambda name, value: seen.setdefault(name, value))
    return {name: seen[name] for name in point.residual_points(model.arch)}


@every_variant
def test_values_may_have_any_basis(model_type, overrides):
    model = double_model(model_type, overrides)
    arch, changed = model.arch, model
    for layer in range(arch.num_layers):
        matrices = random(arch.num_kv_heads, arch.head_dim, arch.head_dim, seed=layer)
        changed = changed.with_tensors(rotate_values(changed.tensors, arch, layer, matrices))
    assert_same_function(model, changed)
    assert changed.arch == arch


@pytest.mark.parametrize(("model_type", "overrides"), [each for each in VARIANTS if each[0] not in HEAD_NORMS], ids=str)
def test_queries_and_keys_may_be_turned_together(model_type, overrides):
    model = double_model(model_type, overrides)
    arch, changed = model.arch, model
    for layer in range(arch.num_layers):
        angle, log_scale = key_parameters(arch, layer)
        changed = changed.with_tensors(rotate_keys(changed.tensors, arch, layer, angle, log_scale))
    assert_same_function(model, changed)
    same = [name for name in model.tensors if torch.equal(model.tensors[name], changed.tensors[name])]
    assert not [name for name in same if point.role_of(name.rpartition(".")[0]) in ("q", "k")]


def key_parameters(arch, layer):
    pairs = arch.layers[layer].rope.rotary_dim // 2 if arch.layers[layer].rope else 0
    shape = arch.num_kv_heads, arch.head_dim - pairs
    return random(arch.num_kv_heads, pairs, seed=layer, spread=3.0), random(*shape, seed=layer + 9)


@settings(max_examples=20, deadline=None)
@given(
    angles=st.lists(st.floats(-7, 7), min_size=12, max_size=12),
    scales=st.lists(st.floats(-4, 4), min_size=12, max_size=12),
)
def test_any_angle_and_scale_between_queries_and_keys(angles, scales):
    model = double_model("llama")
    angle, log_scale = (torch.tensor(numbers).double().view(2, 6) for numbers in (angles, scales))
    assert_same_function(model, model.with_tensors(rotate_keys(model.tensors, model.arch, 1, angle, log_scale)))


def test_turning_other_dimensions_than_rope_does_would_change_the_logits():
    """A rotation of neighbours does not commute with RoPE, which turns dimension i with i + rotary_dim/2."""
    model = double_model("llama")
    half = model.arch.head_dim // 2
    layers = tuple(replace(each, rope=replace(each.rope, inverse_frequencies=(1.0,))) for each in model.arch.layers)
    other = replace(model.arch, layers=layers)  # as if only two neighbours turned
    changed = rotate_keys(model.tensors, other, 0, random(2, 1), torch.zeros(2, 2 * half - 1))
    with pytest.raises(AssertionError):
        assert_same_function(model, model.with_tensors(changed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dtype_of_the_tensors_stays(dtype):
    model = rotatable(tiny_model("qwen2").to(dtype=dtype))
    angle, log_scale = key_parameters(model.arch, 0)
    changed = rotate_residual(model.tensors, model.arch, orthogonal(48))
    changed |= rotate_values(model.tensors, model.arch, 0, random(2, 12, 12))
    changed |= rotate_keys(model.tensors, model.arch, 0, angle, log_scale)
    assert {tensor.dtype for tensor in changed.values()} == {dtype}


def test_a_large_channel_is_spread_over_all():
    model = rotatable(double_model("llama"))
    embed = model.weight("embed").clone()
    embed[:, 7] *= 100
    model = model.with_tensors({"embed.weight": embed})
    rotation = random_hadamard(48, torch.Generator().manual_seed(0))
    rotated = model.with_tensors(rotate_residual(model.tensors, model.arch, rotation))
    largest = [each.weight("embed").abs().amax().item() for each in (model, rotated)]
    assert largest[1] < 0.25 * largest[0]


class TestRefusals:
    def test_gains_behind_the_branches(self):
        model = double_model("gemma2")
        with pytest.raises(ValueError, match="gains between its branches"):
            rotate_residual(model.tensors, model.arch, orthogonal(48))
        with pytest.raises(ValueError, match="no LayerNorms"):
            to_rms_norm(model.tensors, model.arch)

    def test_channels_with_units_of_their_own(self):
        for model_type in ("llama", "gpt2"):
            model = double_model(model_type)
            scaled = {**model.tensors, **scale_residual(model.tensors, model.arch, torch.full((48,), 2.0))}
            with pytest.raises(ValueError, match=r"residual\.scale"):
                rotate_residual(scaled, model.arch, orthogonal(48))
        with pytest.raises(ValueError, match=r"residual\.scale"):
            to_rms_norm(scaled, model.arch)
        column = {**model.tensors, point.COLUMN_SCALE: torch.ones(48)}
        with pytest.raises(ValueError, match=r"embed\.column_scale"):
            rotate_residual(column, model.arch, orthogonal(48))

    def test_norms_that_are_not_ready(self):
        model = double_model("llama")
        with pytest.raises(ValueError, match=r"layers\.0\.attn_norm has gains"):
            rotate_residual(model.tensors, model.arch, orthogonal(48))
        layer = double_model("gpt2")
        with pytest.raises(ValueError, match="LayerNorm"):
            rotate_residual(layer.tensors, layer.arch, orthogonal(48))
        with pytest.raises(ValueError, match=r"norm\.bias is not zero"):
            to_rms_norm(layer.tensors, layer.arch)

    @pytest.mark.parametrize("rotation", [torch.eye(3), 2 * torch.eye(48), torch.full((48, 48), torch.nan)])
    def test_what_is_no_rotation(self, rotation):
        model = rotatable(double_model("llama"))
        with pytest.raises(ValueError, match="rotation of the residual"):
            rotate_residual(model.tensors, model.arch, rotation)

    @pytest.mark.parametrize("matrices", [torch.ones(2, 12, 12), torch.eye(12), torch.ones(2, 3, 4)])
    def test_a_basis_without_inverse(self, matrices):
        model = double_model("llama")
        with pytest.raises(ValueError, match=r"layers\.1\.v"):
            rotate_values(model.tensors, model.arch, 1, matrices)

    def test_keys(self):
        model = double_model("llama")
        for angle, log_scale in (
            (torch.zeros(2, 3), torch.zeros(2, 6)),
            (torch.zeros(2, 6), torch.zeros(1, 6)),
            (torch.full((2, 6), torch.inf), torch.zeros(2, 6)),
        ):
            with pytest.raises(ValueError, match=r"layers\.0\.k"):
                rotate_keys(model.tensors, model.arch, 0, angle, log_scale)

    @pytest.mark.parametrize("model_type", HEAD_NORMS)
    def test_keys_behind_a_head_norm(self, model_type):
        model = double_model(model_type)
        with pytest.raises(ValueError, match="normalizes heads"):
            rotate_keys(model.tensors, model.arch, 0, *key_parameters(model.arch, 0))


@pytest.mark.parametrize("change", ["residual", "values", "keys"])
def test_gradients_are_those_of_the_function(change):
    """Numerical against analytical, through a weighted sum of all changed tensors of a small model."""
    sizes = {"hidden_size": 16, "intermediate_size": 6, "vocab_size": 5, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    model = rotatable(double_model("stablelm", sizes | heads))
    arch, tensors = model.arch, model.tensors
    inputs, function = {
        "residual": ((orthogonal(16),), lambda q: residual_in_basis(tensors, arch, q)),
        "values": ((orthogonal(8)[None],), lambda m: values_in_basis(tensors, arch, 0, m)),
        "keys": (key_parameters(arch, 0), lambda *both: keys_in_basis(tensors, arch, 0, *both)),
    }[change]

    def weighted(*parameters):
        changed = function(*parameters)
        return sum((tensor * random(*tensor.shape, seed=i)).sum() for i, tensor in enumerate(changed.values()))

    assert torch.autograd.gradcheck(weighted, [each.clone().requires_grad_() for each in inputs])


def test_gradients_of_the_loss_reach_every_matrix_in_float32():
    model = rotatable(tiny_model("llama"))
    arch = model.arch
    rotation, values = orthogonal(48).float(), torch.stack([orthogonal(12, seed) for seed in (0, 1)]).float()
    learned = [each.requires_grad_() for each in (rotation, values, torch.zeros(2, 6), torch.zeros(2, 6))]
    changed = model.with_tensors(residual_in_basis(model.tensors, arch, rotation))
    changed = changed.with_tensors(values_in_basis(changed.tensors, arch, 0, values))
    changed = changed.with_tensors(keys_in_basis(changed.tensors, arch, 0, *learned[2:]))
    rounded = forward(changed, TOKENS, tap=lambda name, value: value + (value.round() - value).detach())
    rounded.square().mean().backward()
    assert all(each.grad is not None and each.grad.isfinite().all() and each.grad.any() for each in learned)
