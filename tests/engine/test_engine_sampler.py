"""The sampler of the engine against its twin in unbounded integers, on every kind of request and on extremes."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mobilequant.engine.sampler import Sampler, Sampling
from mobilequant.errors import UsageError
from sampler_twin import OCTAVES, POWERS, STEPS, TwinSampler

LOGITS = st.one_of(
    st.lists(st.integers(-32768, 32767), min_size=1, max_size=50),
    st.lists(st.sampled_from([-32768, -1, 0, 1, 32767]), min_size=1, max_size=50),
    st.lists(st.integers(-40, 40), min_size=1, max_size=300),  # many equals
)
OPTIONS = st.fixed_dictionaries(
    {
        "temperature": st.one_of(st.floats(0.01, 100), st.sampled_from([5e-324, 1e-9, 100.0])),
        "top_k": st.one_of(st.just(0), st.integers(1, 60), st.just(2**40)),
        "top_p": st.one_of(st.just(1.0), st.floats(0.0, 1.0, exclude_min=True)),
        "repetition_penalty": st.one_of(st.just(1.0), st.floats(0.01, 100)),
        "seed": st.integers(0, 2**64 - 1),
    }
)
SCALES = st.one_of(st.floats(1e-5, 10), st.sampled_from([5e-324, 1e300]))


@given(LOGITS, OPTIONS, SCALES, st.booleans(), st.data())
@example(
    [3, 9, 9, -5], {"temperature": 1.0, "top_k": 1, "top_p": 1.0, "repetition_penalty": 1.0, "seed": 0}, 1, False, None
)
def test_it_chooses_what_the_twin_chooses(logits, options, scale, greedy, data):
    ours = Sampler(Sampling(**options, greedy=greedy), scale)
    twin = TwinSampler(scale, **{**options, "temperature": 0 if greedy else options["temperature"]})
    before = data.draw(st.lists(st.integers(0, len(logits) - 1), max_size=20)) if data else []
    for _ in range(8):
        token = ours.choose(np.array(logits, np.int16), before)
        assert token == twin.choose(logits, before)
        before.append(token)


def test_the_table_of_powers_does_not_depend_on_the_last_bit_of_exp2():
    """The core rounds what the C library says; a value next to a half could be rounded otherwise elsewhere."""
    for j, power in enumerate(POWERS):
        real = math.exp2(OCTAVES - j / STEPS)
        assert abs(power - real) < 0.499
        assert power == round(math.nextafter(real, 0)) == round(math.nextafter(real, math.inf))


def chosen(logits, before=(), **options):
    sampler = Sampler(Sampling(**options), 0.01)
    return [sampler.choose(np.array(logits, np.int16), list(before)) for _ in range(300)]


def test_the_first_of_equals_is_the_likeliest():
    assert set(chosen([3, 9, 9, -5], greedy=True)) == {1}
    assert set(chosen([3, 9, 9, -5], top_k=1)) == {1}
    assert set(chosen([3, 9, 9, -5], top_p=0.01)) == {1}


def test_shares_are_those_of_the_softmax():
    found = chosen([0, 100, -9999], temperature=1.0)  # a real distance of 1
    assert found.count(1) / len(found) == pytest.approx(math.e / (1 + math.e), abs=0.08)
    assert 2 not in found


def test_limits_and_penalty_do_what_they_say():
    equal = [0] * 10
    assert set(chosen(equal, top_k=3)) == {0, 1, 2}
    assert set(chosen(equal, top_p=0.35)) == {0, 1, 2, 3}
    assert set(chosen([100, 99, 90], before=[0], greedy=True, repetition_penalty=1.05)) == {1}
    assert set(chosen([-100, -101, -400], before=[0, 0], greedy=True, repetition_penalty=1.05)) == {1}
    assert set(chosen([100, 110, 90], before=[0], greedy=True, repetition_penalty=0.5)) == {0}


def test_one_seed_one_sequence():
    assert chosen([0] * 50, seed=5) == chosen([0] * 50, seed=5) != chosen([0] * 50, seed=6)


BAD = [
    *({"temperature": value} for value in (0, -1.0, 100.1, math.nan, math.inf, -math.inf)),
    *({"top_p": value} for value in (0, -0.1, 1.1, math.nan, math.inf)),
    *({"repetition_penalty": value} for value in (0, -1, 0.001, 101, math.nan, math.inf)),
    *({"top_k": value} for value in (-1, 0.5, math.nan, math.inf)),
    *({"seed": value} for value in (-1, 2**64, 0.5, math.nan)),
]


@pytest.mark.parametrize("options", BAD, ids=str)
def test_numbers_that_make_no_sense(options):
    (name,) = options
    with pytest.raises(UsageError, match=f"{name} is"):
        Sampling(**options)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_of_logits_that_makes_no_sense(scale):
    with pytest.raises(UsageError, match="logits_scale is"):
        Sampler(Sampling(), scale)


@pytest.mark.parametrize("token", [-1, 4])
def test_tokens_before_must_have_a_logit(token):
    sampler = Sampler(Sampling(repetition_penalty=2), 1.0)
    with pytest.raises(UsageError, match="outside the vocabulary"):
        sampler.choose(np.zeros(4, np.int16), [token])


def test_there_must_be_logits():
    with pytest.raises(UsageError, match="no logits"):
        Sampler(Sampling(), 1.0).choose(np.zeros(0, np.int16), [])
