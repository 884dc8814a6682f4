"""Our walker against transformers, in float64, on a tiny random model of every family and of its variants.

transformers computes norms, softmax and rotary angles in float32 whatever the model's dtype; ``Double`` turns these
requests into float64 ones, so that only real differences are left and the tolerance can be tight.
"""

from __future__ import annotations

import pytest
import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM

from mobilequant.arch import registry
from mobilequant.models.canonical import build_model
from mobilequant.models.decoder import forward
from mobilequant.models.tiny import tiny_config, tiny_model

TOLERANCE = 1e-12  # of the largest logit; measured: at most 4e-15
TOKENS = torch.arange(2 * 23).reshape(2, 23) * 7 % 96  # longer than every sliding window

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONGROPE = {"type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.5, 2.0, 2.5], "long_factor": [4.0] * 6}
VARIANTS = [
    *((name, {}) for name in registry.model_types()),
    ("llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}),
    ("llama", {"rope_scaling": LLAMA3, "head_dim": 20}),
    ("llama", {"rope_scaling": {"type": "linear", "factor": 4.0}}),
    ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "hidden_act": "gelu"}),
    ("mistral", {"sliding_window": None}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    ("gemma3_text", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "num_hidden_layers": 3}),
    ("gemma3_text", {"layer_types": ["full_attention", "sliding_attention"], "num_hidden_layers": 2}),
    ("stablelm", {"use_parallel_residual": True, "num_key_value_heads": 2, "use_qkv_bias": False}),
    ("stablelm", {"partial_rotary_factor": 0.5}),
    ("phi3", {"rope_scaling": LONGROPE, "original_max_position_embeddings": 32, "sliding_window": None}),
    ("phi3", {"partial_rotary_factor": 0.5}),
    ("opt", {"enable_bias": False, "tie_word_embeddings": False}),
    ("gpt2", {"n_inner": None}),
    ("gpt_neox", {"use_parallel_residual": False, "rotary_pct": 1.0, "attention_bias": False}),
]


class Double(TorchFunctionMode):
    """Inside this context whoever asks torch for float32 gets float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        args = tuple(torch.float64 if value is torch.float32 else value for value in args)
        kwargs = {key: torch.float64 if value is torch.float32 else value for key, value in (kwargs or {}).items()}
        return func(*args, **kwargs)


def random_reference(config):
    """The transformers model in float64 with every parameter random, gains and biases too."""
    options = {key: value for key, value in config.items() if key != "model_type"}
    hf_config = AutoConfig.for_model(config["model_type"], **options)
    with torch.random.fork_rng(devices=[]):
        reference = AutoModelForCausalLM.from_config(hf_config, dtype=torch.float64, attn_implementation="eager")
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in reference.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.3 * noise if parameter.dim() > 1 else parameter + 0.3 * noise)
    return reference.eval()


@pytest.mark.parametrize(("model_type", "overrides"), VARIANTS, ids=lambda value: str(value)[:60])
def test_logits_equal_those_of_transformers(model_type, overrides):
    config = tiny_config(model_type, **overrides)
    with torch.no_grad(), Double():
        reference = random_reference(config)
        expected = reference(TOKENS, use_cache=False).logits
    model = build_model(config, reference.state_dict())
    difference = (forward(model, TOKENS) - expected).abs().max() / expected.abs().max()
    assert expected.dtype == torch.float64
    assert difference < TOLERANCE


@pytest.mark.parametrize("model_type", registry.model_types())
def test_config_as_transformers_saves_it_resolves_alike(model_type):
    config = tiny_config(model_type)
    options = {key: value for key, value in config.items() if key != "model_type"}
    saved = AutoConfig.for_model(model_type, **options).to_diff_dict()
    spec = registry.find(model_type)
    assert spec.resolve(saved) == spec.resolve(config)


@pytest.mark.parametrize("model_type", registry.model_types())
def test_tiny_model_has_exactly_the_tensors_of_the_family(model_type):
    reference = random_reference(tiny_config(model_type))
    loaded = build_model(tiny_config(model_type), reference.state_dict())
    tiny = tiny_model(model_type)
    assert {name: t.shape for name, t in tiny.tensors.items()} == {name: t.shape for name, t in loaded.tensors.items()}
    assert tiny.arch == loaded.arch


@pytest.mark.parametrize("model_type", registry.model_types())
def test_checkpoint_of_the_bare_decoder_loads_too(model_type):
    config = tiny_config(model_type, tie_word_embeddings=True)
    reference = random_reference(config)
    spec = registry.find(model_type)
    state = {name.removeprefix(spec.base_prefix): tensor for name, tensor in reference.state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if not name.startswith(spec.names["lm_head"])}
    full = build_model(config, reference.state_dict())
    bare = build_model(config, state)
    assert all(torch.equal(full.tensors[name], bare.tensors[name]) for name in full.tensors)
