from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.tiny import tiny_model
from mobilequant.numerics.qtype import UINT8
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.narrowing import affordable, eight_bit_ranges, islands, longest_within

TOKENS = torch.randint(0, 96, (3, 12), generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def quantized():
    return run_methods(
        tiny_model("gemma2", num_hidden_layers=2), Scheme(8), [make("ranges", {}), make("rtn", {})], TOKENS
    )


def test_islands_are_16_bit_points_that_nobody_asked_for(quantized):
    asked = replace(quantized, scheme=quantized.scheme.with_sixteen_bit(frozenset({"layers.0.o"})))
    narrow = eight_bit_ranges(quantized, TOKENS, ["layers.1.capped"])
    done = replace(quantized, activations={**quantized.activations, **narrow})
    assert islands(quantized, ["capped", "o"]) == ["layers.0.capped", "layers.0.o", "layers.1.capped", "layers.1.o"]
    assert islands(asked, ["capped", "o"]) == ["layers.0.capped", "layers.1.capped", "layers.1.o"]
    assert islands(done, ["capped", "o"]) == ["layers.0.capped", "layers.0.o", "layers.1.o"]
    assert islands(quantized, ["product"]) == []


def test_narrow_ranges_are_asymmetric_and_inside_what_was_seen(quantized):
    points = islands(quantized, ["scores", "o", "mlp_post_norm"])
    for name, found in eight_bit_ranges(quantized, TOKENS, points).items():
        reach = quantized.activations[name].scale * 32767
        assert found.qtype == UINT8
        assert (255 - found.zero_point) * found.scale <= reach and found.zero_point * found.scale <= reach


def test_a_point_too_dear_is_left_out_and_those_behind_it_still_tried():
    costs = {"dear": 0.5, "cheap": 0.1, "small": 0.2, "gain": 0.0}
    per_element = {"dear": 0.01, "cheap": 0.001, "small": 0.02, "gain": 0.0}
    assert affordable(costs, per_element, 0.31) == ["gain", "cheap", "small"]
    assert affordable(costs, per_element, 0.05) == ["gain"]
    assert affordable(costs, per_element, 1.0) == ["gain", "cheap", "dear", "small"]


@given(st.lists(st.floats(0, 1), max_size=40), st.floats(0, 10))
def test_the_longest_opening_within_the_limit_is_found_in_few_measurements(steps, limit):
    tried = []

    def measure(opening):
        tried.append(len(opening))
        return sum(opening)

    found = longest_within(steps, measure, limit)
    assert sum(found) <= limit
    assert len(found) == len(steps) or sum(steps[: len(found) + 1]) > limit
    assert len(tried) <= 2 + len(steps).bit_length() and 0 not in tried
