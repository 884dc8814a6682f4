"""What the report shows, gathered from a finished run: scores, sizes, ranges, outlier tokens and noise by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.evaluate.sqnr import sqnr
from mobilequant.models.decoder import Tap, forward
from mobilequant.models.model import KVPrefix, Model
from mobilequant.models.quantized import QuantizedModel
from mobilequant.numerics.qparams import QParams
from mobilequant.observe.collect import collect
from mobilequant.pipeline.method import Need
from mobilequant.report.schema import Kind, ModelInfo, RangeRow, RangeSeries, Score, SqnrTable, TokenSeries

_PERCENTILES = ("99", "99.9")

# Executors that are the same for every scheme, with how a report calls them.
_FLOAT_LABELS = {"float": "float", "float_prefix": "float + prefix"}


def model_info(name: str, arch: Architecture, parameters: int) -> ModelInfo:
    """The line about the float model."""
    return ModelInfo(
        name=name,
        family=arch.family,
        parameters=parameters,
        layers=arch.num_layers,
        hidden_size=arch.hidden_size,
        vocab_size=arch.vocab_size,
        max_context=arch.max_context,
    )


def baseline_lines(scores: Mapping[str, Mapping[str, Any]]) -> Iterator[Score]:
    """The lines of what the recipes have to beat, from scores by scheme name."""
    for scheme, values in scores.items():
        if scheme != "float":
            yield _score("RTN, min-max", "fake_quant", scheme, values)


def score_lines(evaluations: Mapping[str, Mapping[str, Any]]) -> Iterator[Score]:
    """The lines of the score table from evaluations by preset name; the float references come once."""
    for number, result in enumerate(evaluations.values()):
        if number == 0:
            for key, label in _FLOAT_LABELS.items():
                if key in result:
                    yield _score(label, "float", "", result[key])
        yield _score("simulated", "fake_quant", result["scheme"], result["fake_quant"])
        stored = {key: result[key] for key in ("size_bytes", "bits_per_weight")}
        yield _score("integer", "integer", result["scheme"], result["integer"]).model_copy(update=stored)


def _score(label: str, kind: Kind, scheme: str, values: Mapping[str, Any]) -> Score:
    return Score(
        label=label,
        kind=kind,
        scheme=scheme,
        is_headline=kind == "integer",
        ppl=values["ppl"],
        ppl_se=values.get("ppl_se"),
        kl=values["kl"],
        kl_se=values.get("kl_se"),
        top1=values["top1"],
    )


def range_series(
    label: str, model: Model, windows: Tensor, prefix: KVPrefix | None, steps: Mapping[str, QParams]
) -> RangeSeries:
    """How the inputs of down are distributed, layer by layer; ``steps`` are their static ranges where there are any."""
    role = point.down_input(model.arch)
    needs = {layer: Need("range", point.at(layer, role)) for layer in range(model.arch.num_layers)}
    stats = collect(model, windows, needs.values(), prefix=prefix)
    rows = tuple(_range_row(layer, stats[need], steps.get(need.point)) for layer, need in needs.items())
    return RangeSeries(label=label, role=role, rows=rows)


def _range_row(layer: int, statistic: Any, qparams: QParams | None) -> RangeRow:
    return RangeRow(
        layer=layer,
        low=statistic.low,
        high=statistic.high,
        percentiles={percent: statistic.percentile(float(percent)) for percent in _PERCENTILES},
        step=qparams.scale if qparams else None,
    )


def token_series(label: str, model: Model, windows: Tensor, layer: int, prefix: KVPrefix | None) -> TokenSeries:
    """Largest magnitude at every position of the first window, at the input of one layer's down."""
    need = Need("token_absmax", point.at(layer, point.down_input(model.arch)))
    magnitudes = collect(model, windows[:1], [need], prefix=prefix)[need]
    return TokenSeries(label=label, point=need.point, max_abs=tuple(magnitudes[0].tolist()))


def worst_layer(series: RangeSeries) -> int:
    """The layer with the largest magnitude."""
    return max(series.rows, key=lambda row: max(-row.low, row.high)).layer


@torch.inference_mode()
def sqnr_table(label: str, quantized: QuantizedModel, windows: Tensor) -> SqnrTable:
    """Accumulated noise of the simulated model at every point, against the transformed float model."""
    simulated, prefix, rounding = quantized.simulated(), quantized.simulated_prefix(), quantized.tap()

    def reference(tokens: Tensor, tap: Tap) -> object:
        return forward(quantized.model, tokens[None], tap=tap, prefix=quantized.prefix)

    def rounded(tokens: Tensor, tap: Tap) -> object:
        return forward(simulated, tokens[None], tap=lambda name, value: tap(name, rounding(name, value)), prefix=prefix)

    return SqnrTable(label=label, rows=tuple(sqnr(reference, rounded, windows)))
