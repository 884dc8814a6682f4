import pytest

from mobilequant.errors import UsageError
from mobilequant.jobs.fit import require_fit
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.recipe import Recipe

ARCH = tiny_model("llama").arch  # a context of 64 tokens, a vocabulary of 96


def recipe(**fields):
    return Recipe.model_validate({"version": 1, "scheme": "static_w8c_a8_kv8", "methods": ["rtn"], **fields})


@pytest.mark.parametrize(("prefix", "longest"), [({"max_tokens": 2}, 62), ({"tokens": [1]}, 63), ({"tokens": []}, 64)])
def test_windows_fit_behind_the_prefix(prefix, longest):
    require_fit(ARCH, recipe(prefix=prefix, data={"window": longest}))
    with pytest.raises(UsageError) as caught:
        require_fit(ARCH, recipe(prefix=prefix, data={"window": longest + 1}))
    assert f"data.window to {longest}" in caught.value.remedy


@pytest.mark.parametrize(("prefix", "longest"), [({"max_tokens": 2}, 62), ({"tokens": [1]}, 63)])
def test_windows_for_training_fit_too(prefix, longest):
    require_fit(ARCH, recipe(prefix=prefix, data={"window": 8}, training={"window": longest}))
    with pytest.raises(UsageError, match=f"windows of {longest + 1} tokens for training") as caught:
        require_fit(ARCH, recipe(prefix=prefix, data={"window": 8}, training={"window": longest + 1}))
    assert f"training.window to {longest}" in caught.value.remedy


def test_a_prefix_that_the_model_does_not_know():
    with pytest.raises(UsageError, match="names the token 96"):
        require_fit(ARCH, recipe(prefix={"tokens": [1, 96]}, data={"window": 16}))
