"""Rotary frequencies: the plain table and the scalings that keep it a constant.

RoPE: Su et al., arXiv 2104.09864, eq. 15. All arithmetic is in float64, so that integer cos/sin tables have one truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mobilequant.arch.architecture import Rope
from mobilequant.arch.config import Config, Key

FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class RopeRule:
    """How one kind of layer turns: the family's defaults and the names of its keys in older files."""

    theta: float = 10_000.0
    theta_key: str = "rope_theta"
    partial: float = 1.0  # fraction of the head that turns
    partial_key: str = "partial_rotary_factor"
    scaled: bool = True  # whether an old-style "rope_scaling" applies to these layers


def plain_frequencies(theta: float, rotary_dim: int) -> tuple[float, ...]:
    """theta^(-2i/rotary_dim) for i < rotary_dim/2, in radians per position."""
    return tuple(theta ** (-2 * i / rotary_dim) for i in range(rotary_dim // 2))


def resolve_rope(rule: RopeRule, config: Config, head_dim: int, layer_type: str) -> Rope:
    """The rotation of one kind of layer; raises CheckpointError for scalings that change with the text's length."""
    parameters = rope_parameters(rule, config, layer_type)
    theta = config.check_number(
        rule.theta_key, _first(parameters, "rope_theta", config.raw, rule.theta_key, rule.theta)
    )
    partial = _first(parameters, "partial_rotary_factor", config.raw, rule.partial_key, rule.partial)
    turning = head_dim * config.check_number(rule.partial_key, partial)
    rotary_dim = int(min(turning, head_dim + 1))
    if rotary_dim % 2 or not 0 < rotary_dim <= head_dim:
        raise config.wrong(rule.partial_key, f"turns {turning:g} of {head_dim} dimensions; an even share is needed")
    kind = rope_kind(parameters)
    if kind not in SCALINGS:
        raise config.unsupported(f"rope scaling {kind!r} is unknown here (known: {', '.join(SCALINGS)})")
    rope = SCALINGS[kind](plain_frequencies(theta, rotary_dim), parameters, config)
    if not all(map(math.isfinite, rope.inverse_frequencies)):
        raise config.wrong("rope scaling", "gives frequencies that are not finite")
    return rope


def rope_parameters(rule: RopeRule, config: Config, layer_type: str) -> Mapping[str, Any]:
    """The settings of one kind of layer, from "rope_parameters" (flat or per kind) or else from "rope_scaling"."""
    found = config.check_mapping("rope_parameters", config.raw.get("rope_parameters"))
    if FULL in found or SLIDING in found:
        return config.check_mapping(f"rope_parameters.{layer_type}", found.get(layer_type))
    if not rule.scaled:
        return {}
    return found or config.check_mapping("rope_scaling", config.raw.get("rope_scaling"))


def rope_kind(parameters: Mapping[str, Any]) -> str:
    """The name of the scaling; "su" is what early Phi-3 files call longrope."""
    kind = str(parameters.get("rope_type") or parameters.get("type") or "default")
    return "longrope" if kind == "su" else kind


def trained_context(parameters: Mapping[str, Any], config: Config) -> int:
    """The context in tokens before any stretching."""
    context = Key("max_position_embeddings")
    name = "original_max_position_embeddings"
    found = config.raw.get(name) or parameters.get(name) or config.value(context)
    return config.check_size(name, found)


def _default(frequencies: tuple[float, ...], _parameters: Mapping[str, Any], _config: Config) -> Rope:
    return Rope(frequencies)


def _linear(frequencies: tuple[float, ...], parameters: Mapping[str, Any], config: Config) -> Rope:
    """Positions are divided by ``factor`` (position interpolation, Chen et al., arXiv 2306.15595)."""
    factor = config.check_number("rope factor", parameters.get("factor"))
    return Rope(tuple(frequency / factor for frequency in frequencies))


def _llama3(frequencies: tuple[float, ...], parameters: Mapping[str, Any], config: Config) -> Rope:
    """Fast waves stay, slow waves are divided by ``factor``, between them a linear blend (Llama 3.1 model card)."""
    factor, low, high = (
        config.check_number(f"rope {key}", parameters.get(key))
        for key in ("factor", "low_freq_factor", "high_freq_factor")
    )
    if high <= low:
        raise config.wrong("rope high_freq_factor", f"must exceed low_freq_factor, but {high} <= {low}")
    context = trained_context(parameters, config)

    def scaled(frequency: float) -> float:
        turns = context * frequency / (2 * math.pi)  # full turns within the trained context
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        return kept * frequency + (1 - kept) * frequency / factor

    return Rope(tuple(scaled(frequency) for frequency in frequencies))


def _longrope(frequencies: tuple[float, ...], parameters: Mapping[str, Any], config: Config) -> Rope:
    """The short table of LongRoPE (Ding et al., arXiv 2402.13753); the context is limited to where it is valid."""
    factors = parameters.get("short_factor")
    if not isinstance(factors, list) or len(factors) != len(frequencies):
        raise config.wrong("rope short_factor", f"must be a list of {len(frequencies)} numbers")
    checked = [config.check_number("rope short_factor", factor) for factor in factors]
    divided = tuple(frequency / factor for frequency, factor in zip(frequencies, checked, strict=True))
    given = parameters.get("attention_factor")
    if given is not None:
        return Rope(divided, config.check_number("rope attention_factor", given))
    return Rope(divided, _longrope_attention_factor(parameters, config))


def _longrope_attention_factor(parameters: Mapping[str, Any], config: Config) -> float:
    """sqrt(1 + ln(stretch) / ln(trained context)), LongRoPE §3.3."""
    context = trained_context(parameters, config)
    stretch = parameters.get("factor") or config.size(Key("max_position_embeddings")) / context
    stretch = config.check_number("rope factor", stretch)
    return math.sqrt(1 + math.log(stretch) / math.log(context)) if stretch > 1 and context > 1 else 1.0


def _first(new: Mapping[str, Any], new_key: str, old: Mapping[str, Any], old_key: str, default: float) -> Any:
    found = new.get(new_key)
    found = old.get(old_key) if found is None else found
    return default if found is None else found


Scaling = Callable[[tuple[float, ...], Mapping[str, Any], Config], Rope]
SCALINGS: dict[str, Scaling] = {"default": _default, "linear": _linear, "llama3": _llama3, "longrope": _longrope}
