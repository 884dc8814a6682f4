import pytest
import torch

from mobilequant.arch import point, registry
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.scheme import Scheme
from mobilequant.transforms.center import center_values


@pytest.mark.parametrize("model_type", registry.model_types())
def test_any_shift_of_the_values_leaves_the_logits_unchanged(model_type: str) -> None:
    model = tiny_model(model_type).to(dtype=torch.float64)
    arch, generator = model.arch, torch.Generator().manual_seed(1)
    changed: dict[str, torch.Tensor] = {}
    for layer in range(arch.num_layers):
        mean = torch.randn(arch.num_kv_heads * arch.head_dim, generator=generator, dtype=torch.float64)
        changed |= center_values(model.tensors, arch, layer, mean)
    shifted = model.with_tensors(changed)
    tokens = torch.randint(0, arch.vocab_size, (2, 12), generator=generator)
    torch.testing.assert_close(forward(shifted, tokens), forward(model, tokens), rtol=1e-12, atol=1e-12)
    prefix = compute_prefix(model, (1, 5)), compute_prefix(shifted, (1, 5))
    expected, found = (forward(m, tokens, prefix=p) for m, p in zip((model, shifted), prefix, strict=True))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_mean_of_the_wrong_width_is_refused() -> None:
    model = tiny_model("llama")
    with pytest.raises(ValueError, match="layer 0"):
        center_values(model.tensors, model.arch, 0, torch.zeros(3))


def test_the_method_centers_what_calibration_saw() -> None:
    model = tiny_model("llama")
    windows = torch.randint(0, 96, (3, 20), generator=torch.Generator().manual_seed(0))
    recipe = [make("center", {}), make("ranges", {"estimator": "minmax"}), make("rtn", {})]
    centered = run_methods(model, Scheme(8), recipe, windows).model
    seen: dict[str, torch.Tensor] = {}

    def tap(name: str, value: torch.Tensor) -> torch.Tensor:
        seen[name] = value
        return value

    forward(centered, windows, tap=tap)
    means = [seen[point.at(layer, "v")].mean((0, 1)) for layer in range(model.arch.num_layers)]
    assert max(mean.abs().max().item() for mean in means) < 1e-5
