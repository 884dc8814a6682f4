from __future__ import annotations

import pytest

from mobilequant.errors import UsageError
from mobilequant.methods.registry import METHODS, make, names


@pytest.mark.parametrize("name", names())
def test_every_method_has_defaults_help_and_a_name(name):
    method = make(name, {})
    assert method.name == name == type(method).name
    for key, field in type(method).Config.model_fields.items():
        assert field.description, f"{name}.{key} has no help"
        assert not field.is_required(), f"{name}.{key} has no default"


def test_unknown_method_names_the_nearest():
    with pytest.raises(UsageError) as caught:
        make("smothquant", {})
    assert "smothquant" in caught.value.message and "'smoothquant'" in caught.value.remedy
    assert all(name in caught.value.remedy for name in METHODS)


def test_unknown_option_lists_the_allowed_ones():
    with pytest.raises(UsageError) as caught:
        make("gptq", {"dampening": 0.1})
    assert "'dampening'" in caught.value.message
    assert all(key in caught.value.remedy for key in ("damping", "block_size", "act_order", "lm_head", "power"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gptq", {"damping": -1}),
        ("smoothquant", {"alpha": 1.5}),
        ("smoothquant", {"pairs": ["gate_to_up"]}),
        ("ranges", {"estimator": "guess"}),
        ("ranges", {"wide_margin": 0.5}),
        ("rtn", {"power": "two"}),
    ],
)
def test_values_out_of_range_are_named(name, options):
    with pytest.raises(UsageError) as caught:
        make(name, options)
    assert next(iter(options)) in caught.value.message
