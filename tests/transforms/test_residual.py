import pytest
import torch

from mobilequant.arch import point, registry
from mobilequant.methods.ptf.method import channel_exponents
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import tiny_model
from mobilequant.numerics.exponent import largest_exponent
from mobilequant.pipeline.scheme import Scheme
from mobilequant.transforms.residual import scale_residual

TOKENS = torch.randint(0, 96, (2, 12), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("model_type", registry.model_types())
def test_any_scale_of_the_residual_leaves_the_logits_unchanged(model_type: str) -> None:
    model = tiny_model(model_type).to(dtype=torch.float64)
    scaled = model
    for seed in (2, 3):  # twice: the second comes on top of the first
        scale = torch.exp2(torch.randn(model.arch.hidden_size, generator=torch.Generator().manual_seed(seed)))
        scaled = scaled.with_tensors(scale_residual(scaled.tensors, model.arch, scale.double()))
    torch.testing.assert_close(forward(scaled, TOKENS), forward(model, TOKENS), rtol=1e-12, atol=1e-12)
    prefix = compute_prefix(model, (1, 5)), compute_prefix(scaled, (1, 5))
    expected, found = (forward(m, TOKENS, prefix=p) for m, p in zip((model, scaled), prefix, strict=True))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [torch.ones(3), torch.zeros(48), torch.full((48,), float("inf"))])
def test_an_impossible_scale_is_refused(scale: torch.Tensor) -> None:
    model = tiny_model("llama")
    with pytest.raises(ValueError, match="residual"):
        scale_residual(model.tensors, model.arch, scale)


def test_only_the_massive_channel_is_shifted() -> None:
    magnitudes = torch.tensor([98_000.0, 3_000.0, 3_100.0, 1.0, 0.0])
    assert channel_exponents(magnitudes, 5).tolist() == [5, 0, 1, 0, 0]
    assert channel_exponents(magnitudes, 0).tolist() == [0] * 5
    assert channel_exponents(torch.tensor([7.0, 6.0, 5.0]), 5).tolist() == [0, 0, 0]
    assert channel_exponents(torch.zeros(3), 5).tolist() == [0, 0, 0]


def test_room_for_exponents_shrinks_with_the_width() -> None:
    assert [largest_exponent(channels) for channels in (1, 640, 1024, 1025, 4096, 40_000)] == [15, 5, 5, 4, 3, 0]


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text"])
def test_a_massive_channel_no_longer_costs_the_others_their_steps(model_type: str) -> None:
    model = with_massive_channel(model_type)
    windows = torch.randint(0, 96, (3, 20), generator=torch.Generator().manual_seed(0))

    def step(*first: str) -> float:
        recipe = [*(make(name, {}) for name in first), make("ranges", {"estimator": "minmax"}), make("rtn", {})]
        return run_methods(model, Scheme(8), recipe, windows).activations["layers.1.mlp_residual"].scale

    assert step() > 100 * step("ptf")


def with_massive_channel(model_type):
    """A model whose residual holds a thousand times more in channel 5 than elsewhere, behind the first block."""
    model = tiny_model(model_type)
    writer = point.residual_writers(model.arch)[0]
    weight = model.tensors[f"{writer}.weight"].clone()
    weight[5] *= 1000
    return model.with_tensors({f"{writer}.weight": weight})
