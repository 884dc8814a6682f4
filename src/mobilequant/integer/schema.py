"""What each kind of op must carry, and the check that a graph is well formed before anybody runs it.

This is the machine-readable half of ``docs/integer-semantics.md``: names and dtypes here, how the parts of an op fit
together in ``shape``, what may read what in ``layout``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mobilequant.integer.graph import TOKENS, IntegerGraph, Op, TensorSpec
from mobilequant.integer.layout import check_layout
from mobilequant.integer.requirement import require
from mobilequant.integer.shape import check_shapes
from mobilequant.numerics.qtype import BY_NAME


@dataclass(frozen=True)
class OpSchema:
    """Number of inputs, names of integer attributes, and dtypes allowed for each constant."""

    num_inputs: int
    attributes: frozenset[str]
    constants: dict[str, tuple[str, ...]]
    optional: dict[str, tuple[str, ...]]


def _schema(
    num_inputs: int,
    attributes: str = "",
    constants: dict[str, tuple[str, ...]] | None = None,
    optional: dict[str, tuple[str, ...]] | None = None,
) -> OpSchema:
    return OpSchema(num_inputs, frozenset(attributes.split()), constants or {}, optional or {})


_PER_CHANNEL = {"mantissa": ("int32",), "shift": ("int8",)}

OPS: dict[str, OpSchema] = {
    "embedding": _schema(
        1, "", {"codes": ("int8",), **_PER_CHANNEL},
        {"position_codes": ("int8",), "position_mantissa": ("int32",), "position_shift": ("int8",),
         "exponent": ("uint8",), "position_exponent": ("uint8",)},
    ),
    "norm": _schema(
        1,
        "epsilon subtract_mean group mantissa shift",
        {"gain": ("int16",)},
        {"bias": ("int32",), "exponent": ("uint8",)},
    ),
    "linear": _schema(
        1, "accumulator_bound", {"codes": ("int8", "int4"), **_PER_CHANNEL},
        {"bias": ("int32",), "group_multiplier": ("uint8",)},
    ),
    "rope": _schema(1, "head_dim mantissa shift", {"cos": ("int16",), "sin": ("int16",)}),
    "attention_scores": _schema(2, "layer num_heads head_dim window mantissa shift"),
    "attention_context": _schema(2, "layer num_heads head_dim mantissa shift"),
    "softmax": _schema(1, "one window mantissa shift", {"table": ("int32",)}),
    "table8": _schema(1, "", {"table": ("uint8", "int16")}),
    "table16": _schema(1, "", {"table": ("int16",)}),
    "multiply": _schema(2, "mantissa shift"),
    "add": _schema(2, "mantissa_a shift_a mantissa_b shift_b mantissa shift"),
}  # fmt: skip

MAX_CONTEXT = 1 << 22  # keeps the accumulators of attention_context far inside int32
_ATTRIBUTE_LIMITS = {"mantissa": (0, (1 << 31) - 1), "shift": (2, 62)}


def validate(graph: IntegerGraph) -> None:
    """Check everything that a graph can get wrong, so that whoever runs it need not check again.

    Raises:
        PackageError: the first thing that is wrong, with the op's name.
    """
    _check_limits(graph)
    _check_caches(graph)
    defined = {TOKENS}
    for op in graph.ops:
        _check_op(graph, op, defined)
        defined.add(op.output)
    require(set(graph.tensors) == defined - {TOKENS}, "tensors and outputs of ops are not the same names")
    require(graph.output in graph.tensors, f"no op computes the output {graph.output!r}")
    check_layout(graph)
    logits = graph.tensors[graph.output]
    require(logits.channels == graph.vocab_size, f"{logits.channels} logits for a vocabulary of {graph.vocab_size}")
    require(logits.dtype == "int16", "logits must be int16")


def _check_limits(graph: IntegerGraph) -> None:
    require(graph.vocab_size > 0, "the vocabulary is empty")
    require(0 < graph.context <= MAX_CONTEXT, f"a context of {graph.context} is outside [1, {MAX_CONTEXT}]")
    require(0 <= graph.num_prefix < graph.context, f"a prefix of {graph.num_prefix} does not fit the context")
    require(len(graph.prefix_tokens) == graph.num_prefix, "prefix_tokens and num_prefix differ")
    known = all(0 <= token < graph.vocab_size for token in graph.prefix_tokens)
    require(known, "a prefix token is outside the vocabulary")


def _check_caches(graph: IntegerGraph) -> None:
    for cache in graph.caches:
        require(cache.num_kv_heads > 0 and cache.head_dim > 0, f"the cache {cache.keys!r} has no heads")
        for name in (cache.keys, cache.values):
            shape = (graph.num_prefix, cache.num_kv_heads, cache.head_dim)
            constant = graph.constants.get(name)
            require(
                constant is not None and constant.dtype == "uint8" and constant.array.shape == shape,
                f"the cache constant {name!r} must be uint8 of shape {shape}",
            )


def _check_op(graph: IntegerGraph, op: Op, defined: set[str]) -> None:
    where = f"op {op.output!r}"
    require(op.kind in OPS, f"{where} is of the unknown kind {op.kind!r}")
    schema = OPS[op.kind]
    require(len(op.inputs) == schema.num_inputs, f"{where} ({op.kind}) needs {schema.num_inputs} inputs")
    require(op.output not in defined, f"{where} is computed twice")
    require(op.output in graph.tensors, f"{where} has no tensor description")
    _check_tensor(graph.tensors[op.output], op.output)
    for name in op.inputs:
        require(name in defined, f"{where} reads {name!r} before it is computed")
    _check_attributes(op, schema, where)
    _check_constants(graph, op, schema, where)
    if (TOKENS in op.inputs) == (op.kind == "embedding"):  # otherwise check_layout refuses it
        check_shapes(graph, op)


def _check_tensor(tensor: TensorSpec, name: str) -> None:
    where = f"tensor {name!r}"
    require(tensor.name == name, f"{where} is called {tensor.name!r}")
    require(tensor.dtype in ("uint8", "int16"), f"{where} is of unknown dtype {tensor.dtype!r}")
    limits = BY_NAME[tensor.dtype]
    require(
        limits.qmin <= tensor.qmin <= tensor.zero_point <= tensor.qmax <= limits.qmax,
        f"{where}: zero point and limits do not fit {tensor.dtype}",
    )
    require(tensor.dtype == "uint8" or tensor.zero_point == 0, f"{where} is int16 but its zero point is not 0")
    require(math.isfinite(tensor.scale) and tensor.scale > 0, f"{where} has the scale {tensor.scale}")
    require(tensor.channels > 0, f"{where} has no channels")


def _check_attributes(op: Op, schema: OpSchema, where: str) -> None:
    require(
        set(op.attributes) == schema.attributes, f"{where} ({op.kind}) needs attributes {sorted(schema.attributes)}"
    )
    for name, value in op.attributes.items():
        low, high = _ATTRIBUTE_LIMITS.get(name.split("_")[0], (0, (1 << 62) - 1))
        require(type(value) is int and low <= value <= high, f"{where}: {name}={value!r} is outside [{low}, {high}]")


def _check_constants(graph: IntegerGraph, op: Op, schema: OpSchema, where: str) -> None:
    allowed = {**schema.constants, **schema.optional}
    require(
        set(schema.constants) <= set(op.constants) <= set(allowed),
        f"{where} ({op.kind}) needs constants {sorted(schema.constants)}",
    )
    for parameter, name in op.constants.items():
        require(name in graph.constants, f"{where}: constant {name!r} is missing")
        constant = graph.constants[name]
        require(
            constant.dtype in allowed[parameter], f"{where}: {parameter} is {constant.dtype}, not {allowed[parameter]}"
        )
        held = BY_NAME[constant.dtype].storage if constant.dtype in BY_NAME else constant.dtype
        require(constant.array.dtype.name == held, f"{where}: {parameter} is held as {constant.array.dtype.name}")
