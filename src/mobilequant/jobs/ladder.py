"""The ladder of an ablation: recipes of which each has one idea more than the one before, or another in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mobilequant.errors import UsageError, did_you_mean
from mobilequant.pipeline.recipe import CalibrationData, Recipe

Methods = Sequence[str | dict[str, Any]]

SCHEMES = {"w8a8": "static_w8c_a8_kv8", "w4a8": "static_w4c_a8_kv8", "w4g64a8": "static_w4g64_a8_kv8"}

_NORM_PAIRS = ["norm_to_qkv", "norm_to_mlp", "v_to_o"]
_ALL_PAIRS = ["norm_to_qkv", "norm_to_mlp", "norm_to_head", "up_to_down", "v_to_o", "q_to_k"]
_MINMAX, _MSE = {"ranges": {"estimator": "minmax"}}, {"ranges": {"estimator": "mse"}}
_ROTATE_R1, _ROTATE = {"rotate": {"heads": "none"}}, "rotate"
_LEARN_ROTATIONS: Methods = [
    _ROTATE,
    {"smoothquant": {"pairs": ["up_to_down", "q_to_k"]}},  # what no rotation reaches
    "learned_rotation",
]
_LITTLE = {"alpha": 0.25, "beta": 0, "pairs": ["norm_to_head", "up_to_down", "v_to_o", "q_to_k"]}
_WIDEN = {"sixteen_bit": {"fraction_of_down": 0.1}}
_RATES = {"w8a8": {"rate": 3.0, "weight_rate": 3.0}}
_TUNED = {"self_distillation": {"rate": 3.0, "weight_rate": 3.0}}
_PUBLISHED = {"alpha": 0.5, "balance": "input"}


@dataclass(frozen=True)
class Rung:
    """One step of the ladder: what it adds to the step before, and the whole recipe."""

    name: str
    recipe: Recipe


def ladder(width: str, data: CalibrationData, training: CalibrationData | None, seed: int) -> list[Rung]:
    """From rounding to nearest to all that there is, in a scheme of ``SCHEMES``.

    Raises:
        UsageError: no such width.
    """
    if width not in SCHEMES:
        raise UsageError(f"unknown width {width!r}", f"{did_you_mean(width, SCHEMES)}There are: {', '.join(SCHEMES)}.")
    return [
        Rung(
            name,
            Recipe.model_validate(
                {
                    "version": 1,
                    "scheme": SCHEMES[width],
                    "prefix": {"tokens": "auto", "max_tokens": max_tokens},
                    "methods": methods,
                    "data": data,
                    "training": training,
                    "seed": seed,
                }
            ),
        )
        for name, max_tokens, methods in _steps(width)
    ]


def _steps(width: str) -> list[tuple[str, int, Methods]]:
    """Name, most tokens of the prefix, methods; the last but one is the preset ``<width>-best``."""
    published = {"smoothquant": {**_PUBLISHED, "pairs": _NORM_PAIRS}}
    edge = {"smoothquant": {**_PUBLISHED, "pairs": [*_NORM_PAIRS, "up_to_down"]}}
    ours: Methods = ["center", "ptf", {"smoothquant": {"alpha": 0.7}}, _MSE]
    # One scale for a row of 4 bits: there smoothing costs the weights more than it spares the activations.
    less: Methods = ["center", "ptf", {"smoothquant": _LITTLE}, _MSE]
    base = less if width == "w4a8" else ours
    learned = {"mobilequant": {"weights": "fixed"}}
    rounded = {"mobilequant": {"weights": "rounding", "pairs": _ALL_PAIRS, **_RATES.get(width, {})}}
    return [
        ("RTN", 0, [_MINMAX, "rtn"]),
        ("+ pairs", 0, [published, _MINMAX, "rtn"]),
        ("+ up/down", 0, [edge, _MINMAX, "rtn"]),
        ("+ prefix", 2, [edge, _MINMAX, "rtn"]),
        ("+ balance, center, ptf, MSE", 2, [*ours, "rtn"]),
        *([("less smoothing", 2, [*less, "rtn"])] if base is less else []),
        ("+ R1", 2, [_ROTATE_R1, *base, "rtn"]),
        ("+ R2", 2, [_ROTATE, *base, "rtn"]),
        ("+ Tₖ, left out again", 2, [_ROTATE, "rotate_keys", *base, "rtn"]),
        ("+ GPTQ", 2, [_ROTATE, *base, "gptq"]),
        ("+ learned ranges", 2, [_ROTATE, *base, "gptq", learned]),
        ("+ learned scales", 2, [_ROTATE, *base, "gptq", "mobilequant"]),
        ("rounding and pairs learned instead", 2, [_ROTATE, *base, rounded]),
        ("+ learned R1, R2, left out again", 2, [*_LEARN_ROTATIONS, *base, rounded]),
        ("+ A16 ≤ 10 %", 2, [_ROTATE, *base, _WIDEN, rounded]),  # chosen before training sees it
        ("+ weights tuned (stage C)", 2, [_ROTATE, *base, _WIDEN, rounded, _TUNED]),
    ]
