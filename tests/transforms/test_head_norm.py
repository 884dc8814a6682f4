import pytest
import torch

from mobilequant.arch import point
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.scheme import Scheme
from mobilequant.transforms.head_norm import scale_head_norm_input

TOKENS = torch.randint(0, 96, (2, 12), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("model_type", ["qwen3", "gemma3_text"])
def test_any_scale_in_front_of_a_head_norm_leaves_the_logits_unchanged(model_type: str) -> None:
    model = tiny_model(model_type).to(dtype=torch.float64)
    arch, generator, scaled = model.arch, torch.Generator().manual_seed(2), model
    for layer in [*range(arch.num_layers), 0]:  # layer 0 twice: the second comes on top of the first
        for role in ("q", "k"):
            scale = torch.exp2(torch.randn(arch.head_dim, generator=generator))
            scaled = scaled.with_tensors(scale_head_norm_input(scaled.tensors, arch, layer, role, scale))
    prefix = compute_prefix(model, (1, 5)), compute_prefix(scaled, (1, 5))
    expected, found = (forward(m, TOKENS, prefix=p) for m, p in zip((model, scaled), prefix, strict=True))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("model_type", "size"), [("llama", 12), ("qwen3", 3)])
def test_where_there_is_no_head_norm_or_another_size(model_type: str, size: int) -> None:
    model = tiny_model(model_type)
    with pytest.raises(ValueError, match="q_norm"):
        scale_head_norm_input(model.tensors, model.arch, 0, "q", torch.ones(size))


def test_a_massive_dimension_no_longer_costs_the_others_their_steps() -> None:
    model = tiny_model("qwen3")
    weight = model.tensors["layers.0.q.weight"].clone()
    weight[:: model.arch.head_dim] *= 50  # the first dimension of every head
    model = model.with_tensors({"layers.0.q.weight": weight})

    def step(*first: str) -> float:
        recipe = [*(make(name, {}) for name in first), make("ranges", {"estimator": "minmax"}), make("rtn", {})]
        return run_methods(model, Scheme(8), recipe, TOKENS).activations[point.at(0, "q")].scale

    assert step() > 20 * step("ptf")
