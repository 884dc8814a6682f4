from __future__ import annotations

import math

import pytest

from mobilequant.arch import registry
from mobilequant.arch.rope import plain_frequencies
from mobilequant.errors import CheckpointError
from mobilequant.models.tiny import tiny_config


def rope_of(model_type, layer=0, **overrides):
    return registry.find(model_type).resolve(tiny_config(model_type, **overrides)).layers[layer].rope


def test_plain_frequencies_fall_from_one_to_theta():
    assert plain_frequencies(10_000.0, 4) == pytest.approx((1.0, 0.01))


def test_old_and_new_config_styles_say_the_same():
    scaling = {"rope_type": "linear", "factor": 4.0}
    old = rope_of("llama", rope_theta=500.0, rope_scaling=scaling)
    new = rope_of("llama", rope_theta=None, rope_parameters={"rope_theta": 500.0, **scaling})
    assert old == new
    assert old.inverse_frequencies[0] == 0.25


def test_llama3_keeps_fast_waves_and_slows_slow_ones():
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_max_position_embeddings"] = 64
    plain = rope_of("llama", head_dim=16).inverse_frequencies
    scaled = rope_of("llama", head_dim=16, rope_scaling=scaling).inverse_frequencies
    for before, after in zip(plain, scaled, strict=True):
        turns = 64 * before / (2 * math.pi)
        if turns >= 4:
            assert after == before
        elif turns <= 1:
            assert after == pytest.approx(before / 8)
        else:
            assert before / 8 < after < before


def test_gemma3_turns_local_and_global_layers_differently():
    nested = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    }
    new = {"rope_parameters": nested, "rope_theta": None, "rope_local_base_freq": None}
    old = {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    for style in (new, old):
        assert rope_of("gemma3_text", 0, **style).inverse_frequencies == plain_frequencies(1e4, 16)
        expected = tuple(frequency / 8 for frequency in plain_frequencies(1e6, 16))
        assert rope_of("gemma3_text", 2, **style).inverse_frequencies == expected


def test_partial_rotation():
    assert rope_of("stablelm").rotary_dim == 4
    assert rope_of("gpt_neox", rotary_pct=0.5).rotary_dim == 8


def test_longrope_limits_the_context_to_what_was_trained():
    longrope = {"type": "su", "short_factor": [1.0] * 6, "long_factor": [8.0] * 6}
    config = tiny_config("phi3", rope_scaling=longrope, original_max_position_embeddings=16)
    arch = registry.find("phi3").resolve(config)
    assert arch.max_context == 16
    assert arch.layers[0].rope.attention_factor == pytest.approx(math.sqrt(1 + math.log(4) / math.log(16)))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn' is unknown"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic' is unknown"),
        ({"rope_scaling": {"type": "linear"}}, "rope factor must be a positive number, but is None"),
        ({"rope_scaling": {"type": "linear", "factor": -1}}, "rope factor"),
        ({"rope_scaling": ["linear"]}, "rope_scaling must be a mapping"),
        ({"rope_theta": float("inf")}, "rope_theta"),
        ({"rope_theta": "10000"}, "rope_theta"),
        ({"partial_rotary_factor": 0.25}, "turns 3 of 12"),
        ({"partial_rotary_factor": 2.0}, "turns 24 of 12"),
        ({"rope_scaling": {"type": "longrope", "short_factor": [1.0]}}, "list of 6 numbers"),
        (
            {"rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}},
            "must exceed",
        ),
    ],
    ids=str,
)
def test_impossible_or_unknown_rotations_are_refused(overrides, said):
    with pytest.raises(CheckpointError, match=said):
        rope_of("llama", **overrides)
