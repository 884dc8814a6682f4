"""What each kind of op must carry, and the check that a graph is well formed before anybody runs it.

This is the machine-readable half of ``docs/integer-semantics.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

from mobilequant.errors import PackageError
from mobilequant.integer.graph import TOKENS, IntegerGraph, Op, TensorSpec
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
        {"position_codes": ("int8",), "position_mantissa": ("int32",), "position_shift": ("int8",)},
    ),
    "norm": _schema(
        1,
        "epsilon subtract_mean group mantissa shift",
        {"gain": ("int16",)},
        {"bias": ("int32",)},
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

_ATTRIBUTE_LIMITS = {"mantissa": (0, (1 << 31) - 1), "shift": (2, 62)}


def validate(graph: IntegerGraph) -> None:
    """Check names, order, op parameters and dtypes of a graph.

    Raises:
        PackageError: the first thing that is wrong, with the op's name.
    """
    defined = {TOKENS}
    for op in graph.ops:
        _check_op(graph, op, defined)
        defined.add(op.output)
    _require(graph.output in defined, f"no op computes the output {graph.output!r}")
    for cache in graph.caches:
        for name in (cache.keys, cache.values):
            shape = (graph.num_prefix, cache.num_kv_heads, cache.head_dim)
            constant = graph.constants.get(name)
            _require(
                constant is not None and constant.dtype == "uint8" and constant.array.shape == shape,
                f"the cache constant {name!r} must be uint8 of shape {shape}",
            )


def _check_op(graph: IntegerGraph, op: Op, defined: set[str]) -> None:
    where = f"op {op.output!r}"
    _require(op.kind in OPS, f"{where} is of the unknown kind {op.kind!r}")
    schema = OPS[op.kind]
    _require(len(op.inputs) == schema.num_inputs, f"{where} ({op.kind}) needs {schema.num_inputs} inputs")
    _require(op.output not in defined, f"{where} is computed twice")
    _require(op.output in graph.tensors, f"{where} has no tensor description")
    _check_tensor(graph.tensors[op.output], where)
    for name in op.inputs:
        _require(name in defined, f"{where} reads {name!r} before it is computed")
    _require(
        set(op.attributes) == schema.attributes, f"{where} ({op.kind}) needs attributes {sorted(schema.attributes)}"
    )
    for name, value in op.attributes.items():
        low, high = _ATTRIBUTE_LIMITS.get(name.split("_")[0], (0, (1 << 62) - 1))
        _require(type(value) is int and low <= value <= high, f"{where}: {name}={value!r} is outside [{low}, {high}]")
    _check_constants(graph, op, schema, where)


def _check_tensor(tensor: TensorSpec, where: str) -> None:
    _require(tensor.dtype in ("uint8", "int16"), f"{where} is of unknown dtype {tensor.dtype!r}")
    limits = BY_NAME[tensor.dtype]
    _require(
        limits.qmin <= tensor.qmin <= tensor.zero_point <= tensor.qmax <= limits.qmax,
        f"{where}: zero point and limits do not fit {tensor.dtype}",
    )
    _require(tensor.channels > 0, f"{where} has no channels")


def _check_constants(graph: IntegerGraph, op: Op, schema: OpSchema, where: str) -> None:
    allowed = {**schema.constants, **schema.optional}
    _require(
        set(schema.constants) <= set(op.constants) <= set(allowed),
        f"{where} ({op.kind}) needs constants {sorted(schema.constants)}",
    )
    for parameter, name in op.constants.items():
        _require(name in graph.constants, f"{where}: constant {name!r} is missing")
        dtype = graph.constants[name].dtype
        _require(dtype in allowed[parameter], f"{where}: {parameter} is {dtype}, expected {allowed[parameter]}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise PackageError(
            f"the integer graph is not valid: {message}",
            "The package is corrupted or of another version; make it again.",
        )
