"""Rules that tie constants, attributes and tensors of an op together: shapes, limits, and sums that fit their widths.

``schema`` has checked by then that everything an op names exists and is of an allowed dtype. One function per kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mobilequant.integer.bound import INT32_MAX, accumulator_bound
from mobilequant.integer.graph import IntegerGraph, Op, TensorSpec
from mobilequant.integer.requirement import require
from mobilequant.numerics.exponent import largest_exponent
from mobilequant.numerics.fixed_point import MAX_SHIFT, MIN_SHIFT

MAX_CHANNELS = 1 << 14  # of one norm
PROBABILITY_ONE = {"uint8": 256, "int16": 32768}
TABLE16_FRACTION_BITS = {"uint8": 7, "int16": 0}  # of the entries of a table, by what it writes
CACHE_ZERO_POINT = 128
_MAX_EPSILON, _MAX_NORM_BIAS, _MAX_HEAD_DIM = 1 << 61, 1 << 30, 1 << 16
_EXP2_ONE = 1 << 16  # the first entry of the softmax table
_CODE_LIMITS = {"int4": (-8, 7), "int8": (-127, 127)}


def check_shapes(graph: IntegerGraph, op: Op) -> None:
    """Check one op of a graph whose names and dtypes are right.

    Raises:
        PackageError: the first rule that the op breaks.
    """
    _RULES[op.kind](_View(graph, op))


@dataclass(frozen=True)
class _View:
    """An op with what it names."""

    graph: IntegerGraph
    op: Op

    @property
    def target(self) -> TensorSpec:
        return self.graph.tensors[self.op.output]

    def source(self, number: int = 0) -> TensorSpec:
        return self.graph.tensors[self.op.inputs[number]]

    def attribute(self, name: str) -> int:
        return self.op.attributes[name]

    def has(self, parameter: str) -> bool:
        return parameter in self.op.constants

    def array(self, parameter: str) -> np.ndarray:
        return self.graph.constants[self.op.constants[parameter]].array

    def optional(self, parameter: str) -> np.ndarray | None:
        return self.array(parameter) if self.has(parameter) else None

    def require(self, condition: bool, message: str) -> None:
        require(condition, f"op {self.op.output!r} ({self.op.kind}): {message}")

    def shape(self, parameter: str, *expected: int) -> None:
        """The constant, where it is present, has this shape."""
        if self.has(parameter):
            found = self.array(parameter).shape
            self.require(found == expected, f"{parameter} has shape {found}, expected {expected}")

    def within(self, parameter: str, low: int, high: int) -> None:
        """All values of the constant, where it is present, lie in [low, high]."""
        if self.has(parameter) and self.array(parameter).size:
            values = self.array(parameter)
            fits = low <= int(values.min()) and int(values.max()) <= high
            self.require(fits, f"{parameter} leaves [{low}, {high}]")

    def codes(self, parameter: str, rows: int, columns: int) -> None:
        self.shape(parameter, rows, columns)
        self.within(parameter, *_CODE_LIMITS[self.graph.constants[self.op.constants[parameter]].dtype])

    def rescales(self, prefix: str, rows: int) -> None:
        """One factor per row."""
        for name, limits in (("mantissa", (0, INT32_MAX)), ("shift", (MIN_SHIFT, MAX_SHIFT))):
            self.shape(f"{prefix}{name}", rows)
            self.within(f"{prefix}{name}", *limits)

    def same_channels(self) -> None:
        for name in self.op.inputs:
            found = self.graph.tensors[name].channels
            self.require(found == self.target.channels, f"{name} has {found} channels, not {self.target.channels}")


def _embedding(op: _View) -> None:
    op.codes("codes", op.graph.vocab_size, op.target.channels)
    op.rescales("", op.graph.vocab_size)
    _row_exponents(op, "")
    given = {name for name in op.op.constants if name.startswith("position_")}
    needed = {"position_codes", "position_mantissa", "position_shift"}
    op.require(not given or needed <= given, "learned positions need codes, mantissa and shift")
    if given:
        rows = len(op.array("position_codes"))
        op.require(rows >= op.graph.context, f"{rows} learned positions, but a context of {op.graph.context}")
        op.codes("position_codes", rows, op.target.channels)
        op.rescales("position_", rows)
        _row_exponents(op, "position_")


def _row_exponents(op: _View, prefix: str) -> None:
    """Added to a shift, an exponent still gives a shift."""
    op.shape(f"{prefix}exponent", op.target.channels)
    op.within(f"{prefix}exponent", 0, MAX_SHIFT - int(op.array(f"{prefix}shift").max()))


def _linear(op: _View) -> None:
    rows, columns = op.target.channels, op.source().channels
    op.codes("codes", rows, columns)
    op.rescales("", rows)
    op.shape("bias", rows)
    if op.has("group_multiplier"):
        shape = op.array("group_multiplier").shape
        tiles = len(shape) == 2 and shape[0] == rows and shape[1] > 0 and columns % shape[1] == 0
        op.require(tiles, f"group_multiplier of shape {shape} does not divide codes of shape {(rows, columns)}")
        op.within("group_multiplier", 1, 255)
    bound = accumulator_bound(
        op.array("codes"), op.optional("group_multiplier"), op.optional("bias"), op.source().qparams()
    )
    stated = op.attribute("accumulator_bound")
    op.require(bound <= stated <= INT32_MAX, f"accumulators reach {bound}, accumulator_bound says {stated}")


def _norm(op: _View) -> None:
    group = op.attribute("group")
    op.same_channels()
    fits = 1 <= group <= MAX_CHANNELS and op.target.channels % group == 0
    op.require(fits, f"groups of {group} do not fit {op.target.channels} channels")
    op.require(op.attribute("subtract_mean") in (0, 1), "subtract_mean must be 0 or 1")
    op.require(op.attribute("epsilon") < _MAX_EPSILON, "epsilon is 2^61 or more")
    op.shape("gain", group)
    op.shape("bias", group)
    op.within("bias", -_MAX_NORM_BIAS, _MAX_NORM_BIAS)
    op.shape("exponent", group)
    op.within("exponent", 0, largest_exponent(group))


def _rope(op: _View) -> None:
    head_dim, shape = op.attribute("head_dim"), op.array("cos").shape
    op.same_channels()
    op.require(head_dim > 0 and op.target.channels % head_dim == 0, f"heads of {head_dim} do not divide the channels")
    fits = len(shape) == 2 and shape[0] >= op.graph.context and 0 < 2 * shape[1] <= head_dim
    op.require(fits, f"cos of shape {shape} does not cover {op.graph.context} positions and heads of {head_dim}")
    op.shape("sin", *shape)


def _attention_scores(op: _View) -> None:
    heads, head_dim = _cached_heads(op)
    op.require(op.source(0).channels == heads * head_dim, f"queries must have {heads} · {head_dim} channels")
    _require_centred(op, 0)
    op.require(op.target.channels == heads, f"scores must have {heads} channels")


def _attention_context(op: _View) -> None:
    heads, head_dim = _cached_heads(op)
    op.require(op.source(0).channels == heads, f"probabilities must have {heads} channels")
    op.require(op.target.channels == heads * head_dim, f"the context must have {heads} · {head_dim} channels")


def _cached_heads(op: _View) -> tuple[int, int]:
    """Query heads and head size, which fit the cache of the layer and the second operand that goes into it."""
    layer, heads, head_dim = (op.attribute(name) for name in ("layer", "num_heads", "head_dim"))
    op.require(layer < len(op.graph.caches), f"there is no cache of layer {layer}")
    cache = op.graph.caches[layer]
    fits = head_dim == cache.head_dim and heads > 0 and heads % cache.num_kv_heads == 0
    op.require(fits and head_dim <= _MAX_HEAD_DIM, f"heads {heads} · {head_dim} do not fit the cache of layer {layer}")
    entry = cache.num_kv_heads * cache.head_dim
    op.require(op.source(1).channels == entry, f"{op.source(1).name} must have {entry} channels")
    _require_centred(op, 1)
    return heads, head_dim


def _require_centred(op: _View, number: int) -> None:
    found = op.source(number)
    centred = found.dtype == "uint8" and found.zero_point == CACHE_ZERO_POINT
    op.require(centred, f"{found.name} must be uint8 with zero point {CACHE_ZERO_POINT}")


def _softmax(op: _View) -> None:
    op.same_channels()
    one = PROBABILITY_ONE[op.target.dtype]
    op.require(op.attribute("one") == one and op.target.zero_point == 0, f"probabilities need one = {one}, zero at 0")
    op.shape("table", 256)
    op.within("table", 0, _EXP2_ONE)
    op.require(int(op.array("table")[0]) == _EXP2_ONE, "the table must begin with 2^16")


def _table8(op: _View) -> None:
    _table(op, "uint8", 256)
    op.require(op.array("table").dtype.name == op.target.dtype, f"the table must be {op.target.dtype}")
    op.within("table", op.target.qmin, op.target.qmax)


def _table16(op: _View) -> None:
    _table(op, "int16", 513)
    bits = TABLE16_FRACTION_BITS[op.target.dtype]
    op.within("table", op.target.qmin << bits, op.target.qmax << bits)


def _table(op: _View, source: str, entries: int) -> None:
    op.same_channels()
    op.require(op.source().dtype == source, f"the input must be {source}")
    op.shape("table", entries)


def _multiply(op: _View) -> None:
    op.same_channels()


def _add(op: _View) -> None:
    op.same_channels()
    total = 0
    for number, suffix in enumerate("ab"):
        source = op.source(number)
        largest = max(source.qmax - source.zero_point, source.zero_point - source.qmin)
        total += (largest * op.attribute(f"mantissa_{suffix}") >> op.attribute(f"shift_{suffix}")) + 1
    op.require(total <= INT32_MAX, f"the sum of its operands reaches {total}, beyond int32")


_RULES: dict[str, Callable[[_View], None]] = {
    "embedding": _embedding,
    "linear": _linear,
    "norm": _norm,
    "rope": _rope,
    "attention_scores": _attention_scores,
    "softmax": _softmax,
    "attention_context": _attention_context,
    "table8": _table8,
    "table16": _table16,
    "multiply": _multiply,
    "add": _add,
}
