"""What a report can show, as one mapping that fits into JSON. Every section is optional; a missing one is left out.

``Result.model_validate(mapping)`` refuses unknown keys. Shares are 0 … 1, sizes are bytes, times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from mobilequant.errors import DataError
from mobilequant.evaluate.protocol import Protocol
from mobilequant.evaluate.sqnr import SqnrRow
from mobilequant.pipeline.environment import Environment

Kind = Literal["float", "fake_quant", "integer"]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Base of every section."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelInfo(Section):
    """The model that was quantized."""

    name: str
    source: str = ""  # where it came from: package and file, folder, or hub id
    family: str = ""
    license: str = ""
    parameters: Count | None = None
    layers: Count | None = None
    hidden_size: Count | None = None
    vocab_size: Count | None = None
    max_context: Count | None = None


class RoleSize(Section):
    """What the weights of one role take on disk, scales included."""

    role: str  # "embed", "q", …, "down", "lm_head", "norm"
    size_bytes: Count
    parameters: Count | None = None


class SchemeInfo(Section):
    """One quantized model."""

    name: str  # decodable: static_w4c_a8_kv8
    preset: str = ""
    bits_per_weight: float | None = None  # all stored bits, scales and embedding included, per parameter
    size_bytes: Count | None = None
    float_ops: Count | None = None  # between token ids and logits
    activations: Count | None = None  # activation points in total
    sixteen_bit: tuple[str, ...] = ()  # points with 16-bit codes
    sizes: tuple[RoleSize, ...] = ()


class Score(Section):
    """One line of the headline table."""

    label: str  # "float", "float + prefix", "RTN", "SmoothQuant + prefix"
    kind: Kind
    scheme: str = ""  # lines of one scheme stand together; empty for the float references
    is_headline: bool = False  # the result that the report is about
    ppl: float
    ppl_se: float | None = None
    kl: float | None = None
    kl_se: float | None = None
    top1: Share | None = None
    size_bytes: Count | None = None
    bits_per_weight: float | None = None


class TaskScore(Section):
    """Zero-shot accuracy of one model on one task, with its 95 % interval."""

    task: str
    label: str
    kind: Kind = "float"
    measure: str = "acc"
    value: Share
    low: Share
    high: Share
    docs: Count


class SqnrTable(Section):
    """Accumulated noise of every activation point of one quantized model."""

    label: str
    rows: tuple[SqnrRow, ...]


class RangeRow(Section):
    """How the values of one role in one layer are distributed, and the step of the 8-bit grid laid over them."""

    layer: Count
    low: float
    high: float
    percentiles: dict[str, tuple[float, float]] = {}  # "99" → the central range that holds 99 % of the values
    step: float | None = None  # scale of the static range; None = (high − low) / 255


class RangeSeries(Section):
    """One role over all layers at one stage of the pipeline."""

    label: str  # "as loaded", "with prefix and smoothing"
    role: str = "product"
    rows: tuple[RangeRow, ...]


class TokenSeries(Section):
    """Largest magnitude over the channels of one point, by position in the window."""

    label: str
    point: str
    max_abs: tuple[float, ...]


class Sample(Section):
    """Text that a model wrote."""

    label: str
    prompt: str
    text: str


class Step(Section):
    """One step of the run."""

    name: str
    seconds: Annotated[float, Field(ge=0)]
    peak_memory_bytes: Count | None = None


class Result(Section):
    """The whole report."""

    title: str = ""
    model: ModelInfo | None = None
    schemes: tuple[SchemeInfo, ...] = ()
    scores: tuple[Score, ...] = ()
    protocol: Protocol | None = None
    tasks: tuple[TaskScore, ...] = ()
    ranges: tuple[RangeSeries, ...] = ()
    token_outliers: tuple[TokenSeries, ...] = ()
    sqnr: tuple[SqnrTable, ...] = ()
    samples: tuple[Sample, ...] = ()
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()  # limits and caveats, one sentence each
    settings: dict[str, JsonValue] = {}
    hashes: dict[str, str] = {}
    environment: Environment | None = None

    @property
    def name(self) -> str:
        """The title, else the model's name."""
        return self.title or (self.model.name if self.model else "Quantization report")


def float_reference(scores: Sequence[Score]) -> Score | None:
    """The line that the others are compared with: the first float one."""
    return next((score for score in scores if score.kind == "float"), None)


def loss_percent(score: Score, reference: Score | None) -> float | None:
    """By how many percent the perplexity is higher than the reference's."""
    return None if reference is None or score is reference else 100.0 * (score.ppl / reference.ppl - 1.0)


def score_groups(scores: Sequence[Score]) -> list[tuple[str, list[Score]]]:
    """Scores by scheme, in the order of first appearance; the references (no scheme) first."""
    order = list(dict.fromkeys(["", *(score.scheme for score in scores)]))
    ranked = sorted(scores, key=lambda score: order.index(score.scheme))
    return [(scheme, list(group)) for scheme, group in groupby(ranked, key=lambda score: score.scheme)]


def as_result(result: Mapping[str, Any] | Result) -> Result:
    """The validated result.

    Raises:
        DataError: a section has another shape than the schema says, or an unknown name.
    """
    try:
        return result if isinstance(result, Result) else Result.model_validate(result)
    except ValidationError as error:
        raise DataError(
            f"this is not a report's result: {error}", "See docs/guide/report.md for the sections."
        ) from error
