from dataclasses import replace

import pytest

from mobilequant.errors import UsageError
from mobilequant.jobs.calibration import calibration_windows, require_room
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.recipe import CalibrationData, Recipe

DATA = CalibrationData(text="x", window=6, count=3, seed=None)
ARCH = tiny_model("llama").arch  # a context of 64 tokens, a vocabulary of 96


def test_windows_start_with_bos_where_the_model_wants_it():
    wants = replace(ARCH, add_bos=True, bos_token=1)
    assert wants.leading_token == 1
    found = calibration_windows(range(10, 40), DATA, wants)
    assert found.shape == (3, 6)
    assert found[:, 0].tolist() == [1, 1, 1]
    assert found[:2, 1:].flatten().tolist() == list(range(10, 20))


def test_windows_are_the_plain_text_otherwise():
    assert replace(ARCH, add_bos=False).leading_token is None
    found = calibration_windows(range(18), DATA, replace(ARCH, add_bos=False))
    assert found.flatten().tolist() == list(range(18))


def recipe(**fields):
    return Recipe.model_validate({"version": 1, "scheme": "static_w8c_a8_kv8", "methods": ["rtn"], **fields})


@pytest.mark.parametrize(("prefix", "longest"), [({"max_tokens": 2}, 62), ({"tokens": [1]}, 63), ({"tokens": []}, 64)])
def test_windows_fit_behind_the_prefix(prefix, longest):
    require_room(ARCH, recipe(prefix=prefix, data={"window": longest}))
    with pytest.raises(UsageError) as caught:
        require_room(ARCH, recipe(prefix=prefix, data={"window": longest + 1}))
    assert f"data.window to {longest}" in caught.value.remedy


def test_a_prefix_that_the_model_does_not_know():
    with pytest.raises(UsageError, match="names the token 96"):
        require_room(ARCH, recipe(prefix={"tokens": [1, 96]}, data={"window": 16}))
