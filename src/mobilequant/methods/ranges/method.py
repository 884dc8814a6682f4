"""Static ranges: the scale and zero point of every activation, from what calibration saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.numerics.qparams import QParams, asymmetric, symmetric
from mobilequant.numerics.qtype import INT16, UINT8
from mobilequant.observe.minmax import Extremes
from mobilequant.observe.outlier import OUTLIER_RATIO
from mobilequant.observe.range import RangeStatistic
from mobilequant.pipeline.method import FrozenConfig, Inputs, Need, Result, Unit, UnitKind
from mobilequant.pipeline.scheme import Scheme

_RESIDUALS = ("attn_residual", "mlp_residual")
# Known before any data. A probability of 1.0 saturates to the last code, as integer softmax does.
PROBS = {UINT8: QParams(1 / 256, 0, UINT8), INT16: QParams(1 / 32768, 0, INT16)}


class RangesConfig(FrozenConfig):
    """How the range of an 8-bit activation is chosen; 16-bit activations keep their extremes and a margin."""

    estimator: Literal["minmax", "percentile", "mse", "lp"] = Field(
        "mse", description="minmax: never clip. percentile: cut both tails. mse, lp: least mean |error|^power."
    )
    percentile: float = Field(99.99, gt=50.0, le=100.0, description="Percent of values kept by estimator percentile.")
    power: float = Field(3.0, ge=1.0, le=8.0, description="Exponent of estimator lp; mse is power 2.")
    wide_margin: float = Field(1.1, ge=1.0, le=16.0, description="Factor on the extremes of 16-bit activations.")
    residual_limit: float = Field(
        16.0, ge=4.0, description="Residuals end at this many times the median token's largest magnitude."
    )


class Ranges:
    """Asymmetric uint8, except: 16-bit points symmetric; operands of the attention products symmetric around 128."""

    name: ClassVar[str] = "ranges"
    unit: ClassVar[UnitKind] = "model"
    inputs: ClassVar[Inputs] = "float"
    changes: ClassVar[frozenset[str]] = frozenset()
    rounds: ClassVar[bool] = False
    Config: ClassVar[type[FrozenConfig]] = RangesConfig

    def __init__(self, config: RangesConfig) -> None:
        self.config = config

    def needs(self, arch: Architecture, scheme: Scheme) -> Sequence[Need]:
        """A distribution for every 8-bit point, extremes for every 16-bit one; probabilities are known beforehand."""
        names = [name for name in point.all_points(arch) if point.role_of(name) != "probs"]
        residuals = [Need("token_absmax", name) for name in names if point.role_of(name) in _RESIDUALS]
        return [*(self._need(scheme, name) for name in names), *residuals]

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """Parameters of every point, and how many points were clipped on purpose."""
        centred = attention_operands(unit.arch)
        chosen: dict[str, QParams] = {}
        clipped = 0
        for name in point.all_points(unit.arch):
            if point.role_of(name) == "probs":
                chosen[name] = PROBS[scheme.activation_qtype(name)]
                continue
            statistic = stats[self._need(scheme, name)]
            if scheme.activation_qtype(name) == INT16:
                chosen[name] = self._wide(_with_table(statistic, name, unit), stats.get(Need("token_absmax", name)))
            else:
                chosen[name] = self._narrow(statistic, name in centred)
                clipped += _clips(chosen[name], statistic)
        return Result(activations=chosen, measures={"points": len(chosen), "clipped_points": clipped})

    def _need(self, scheme: Scheme, name: str) -> Need:
        if scheme.activation_qtype(name) == INT16 or self.config.estimator == "minmax":
            return Need("minmax", name)
        return Need("range", name)

    def _wide(self, extremes: Extremes, tokens: Tensor | None) -> QParams:
        """Symmetric int16 over the extremes times a margin; ``tokens`` (N, T): largest magnitudes of a residual."""
        reach = self.config.wide_margin * max(-extremes.low, extremes.high)
        if tokens is not None and tokens.max() <= OUTLIER_RATIO * tokens.median():
            reach = min(reach, self.config.residual_limit * tokens.median().item())
        return symmetric(reach, INT16)

    def _narrow(self, statistic: RangeStatistic | Extremes, centred: bool) -> QParams:
        low, high = self._estimate(statistic, centred)
        return symmetric(max(-low, high), UINT8) if centred else asymmetric(low, high, UINT8)

    def _estimate(self, statistic: RangeStatistic | Extremes, centred: bool) -> tuple[float, float]:
        if isinstance(statistic, Extremes):
            return statistic.low, statistic.high
        if self.config.estimator == "percentile":
            return statistic.percentile(self.config.percentile)
        power = 2.0 if self.config.estimator == "mse" else self.config.power
        return statistic.optimal(UINT8, power, symmetric=centred)


def attention_operands(arch: Architecture) -> frozenset[str]:
    """The points whose zero point must be 128, so that attention multiplies plain signed codes."""
    layers = range(arch.num_layers)
    return frozenset(
        name
        for layer in layers
        for name in (point.query_point(arch, layer), point.key_point(arch, layer), point.at(layer, "v"))
    )


def _with_table(extremes: Extremes, name: str, unit: Unit) -> Extremes:
    """The embedding's extremes are those of its whole table, not of the tokens that happened to occur."""
    if name != point.EMBED:
        return extremes
    channels = unit.tensors["embed.weight"].abs().amax(0) * abs(unit.arch.embedding_scale)
    channels = channels / unit.tensors.get(point.COLUMN_SCALE, 1.0)
    if unit.arch.learned_positions:
        channels = channels + unit.tensors["positions.weight"].abs().amax(0)
    bound = (channels / unit.tensors.get(point.RESIDUAL_SCALE, 1.0)).max().item()
    return Extremes(min(extremes.low, -bound), max(extremes.high, bound))


def _clips(qparams: QParams, statistic: RangeStatistic | Extremes) -> bool:
    """Whether a value that calibration saw lies more than half a step outside the codes."""
    low, high = ((code - qparams.zero_point) * qparams.scale for code in (qparams.qtype.qmin, qparams.qtype.qmax))
    slack = 0.5 * qparams.scale
    return statistic.low < low - slack or statistic.high > high + slack
