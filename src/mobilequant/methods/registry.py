"""Methods by name: what a recipe entry turns into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mobilequant.errors import UsageError, did_you_mean
from mobilequant.methods.center.method import Center
from mobilequant.methods.gptq.method import Gptq
from mobilequant.methods.learned_rotation.method import LearnedRotation
from mobilequant.methods.mobilequant.method import MobileQuant
from mobilequant.methods.omniquant.method import OmniQuant
from mobilequant.methods.ptf.method import Ptf
from mobilequant.methods.ranges.method import Ranges
from mobilequant.methods.rotate.method import Rotate
from mobilequant.methods.rotate_keys.method import RotateKeys
from mobilequant.methods.rtn.method import Rtn
from mobilequant.methods.self_distillation.method import SelfDistillation
from mobilequant.methods.signround.method import SignRound
from mobilequant.methods.sixteen_bit.method import SixteenBit
from mobilequant.methods.smoothquant.method import SmoothQuant
from mobilequant.pipeline.method import FrozenConfig, Method
from mobilequant.pipeline.recipe import Recipe

_IN_ORDER = (
    *(Rotate, LearnedRotation, RotateKeys, Center, Ptf, SmoothQuant, Ranges, SixteenBit, Rtn, Gptq),
    *(OmniQuant, SignRound, MobileQuant, SelfDistillation),
)
METHODS: Mapping[str, type[Any]] = {method.name: method for method in _IN_ORDER}


def names() -> tuple[str, ...]:
    """Every method that a recipe may name."""
    return tuple(METHODS)


def make(name: str, options: Mapping[str, Any]) -> Method:
    """The method ``name`` with the options of a recipe entry.

    Raises:
        UsageError: no such method, an unknown option, or a value outside its range.
    """
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}", f"{did_you_mean(name, METHODS)}There are: {', '.join(METHODS)}.")
    method = METHODS[name]
    try:
        config = method.Config(**options)
    except ValidationError as error:
        raise UsageError(f"method {name!r}: {_first_problem(error)}", _allowed(name, method.Config)) from error
    made: Method = method(config)
    return made


def make_all(recipe: Recipe) -> list[Method]:
    """The methods of a recipe, in its order.

    Raises:
        UsageError: as ``make``.
    """
    return [make(entry.name, entry.options) for entry in recipe.methods]


def _first_problem(error: ValidationError) -> str:
    detail = error.errors()[0]
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"unknown option {key!r}"
    return f"option {key!r}: {detail['msg']}, got {detail['input']!r}"


def _allowed(name: str, config: type[FrozenConfig]) -> str:
    described = "; ".join(
        f"{key} = {field.default!r} ({field.description})" for key, field in config.model_fields.items()
    )
    return f"Options of {name}: {described}"
