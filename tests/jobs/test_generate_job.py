import math

import pytest

from mobilequant.errors import UsageError
from mobilequant.jobs.generate import generate
from mobilequant.jobs.inspect import inspect


def test_greedy_text_is_repeatable_and_the_same_token_by_token(tiny_package):
    whole = "".join(generate(tiny_package, "abc", max_new_tokens=12, greedy=True))
    assert whole == "".join(generate(tiny_package, "abc", max_new_tokens=12, greedy=True, seed=9))
    shorter = "".join(generate(tiny_package, "abc", max_new_tokens=6, greedy=True)).rstrip("\ufffd")
    assert whole.startswith(shorter)


def test_sampling_follows_its_seed(tiny_package):
    one, same, other = (
        "".join(generate(tiny_package, "abc", max_new_tokens=12, temperature=2.0, seed=seed)) for seed in (1, 1, 2)
    )
    assert one == same != other


@pytest.mark.parametrize("options", [{"greedy": True}, {"seed": 3, "temperature": 2.0, "top_k": 50}])
def test_the_reference_writes_the_same_text(tiny_package, options):
    engine, reference = (
        "".join(generate(tiny_package, "abc", max_new_tokens=12, executor=executor, **options))
        for executor in ("engine", "reference")
    )
    assert engine == reference


def test_generation_ends_where_the_context_ends(tiny_package):
    pieces = list(generate(tiny_package, "a" * 120, max_new_tokens=1000, greedy=True))
    assert 1 <= len("".join(pieces)) <= 9


@pytest.mark.parametrize("options", [{"max_new_tokens": 0}, *({"temperature": t} for t in (0.0, math.nan, math.inf))])
def test_impossible_options(tiny_package, options):
    with pytest.raises(UsageError):
        generate(tiny_package, "abc", **options)


@pytest.mark.parametrize(
    ("prompt", "said"), [("", "prompt is empty"), ("a\udcff", "no valid Unicode"), ("a" * 129, "only holds 128")]
)
def test_prompts_that_cannot_be_continued(tiny_package, prompt, said):
    with pytest.raises(UsageError, match=said):
        generate(tiny_package, prompt)


def test_inspect_tells_what_the_issue_asks(tiny_package):
    found = inspect(tiny_package)
    assert found["float_ops"] == 0
    assert set(found["sixteen_bit_inputs"]) <= set(found["sixteen_bit"])
    assert 8 < found["bits_per_weight"] < 10
    assert found["ops"]["linear"] == 15
    stored = sum(found["size_bytes"].values())
    assert stored == pytest.approx((tiny_package / "weights.safetensors").stat().st_size, rel=0.15)
