"""IntegerGraph: typed integer tensors and ops as plain data; the one schema for memory, disk and engine.

A graph describes a decoder for any number of tokens T at once (prefill) or one at a time (decode): the ops are the
same, and so are the integers. Activations are named as in ``arch.point``. ``scale`` is a note to people and exporters
on what a code means in real numbers; no op reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import BY_NAME

TOKENS = "tokens"  # the only graph input: int32 token ids (T,)


@dataclass(frozen=True)
class TensorSpec:
    """An activation: storage, zero point, saturation limits, real step, and channels per token (heads · head_dim)."""

    name: str
    dtype: str
    zero_point: int
    qmin: int
    qmax: int
    scale: float
    channels: int

    def qparams(self) -> QParams:
        """The same as affine parameters."""
        return QParams(self.scale, self.zero_point, replace(BY_NAME[self.dtype], qmin=self.qmin, qmax=self.qmax))


@dataclass(frozen=True)
class Constant:
    """A stored array. ``dtype`` is its type on disk: "int4" codes lie in an int8 array in memory."""

    dtype: str
    array: np.ndarray

    def stored_bits(self) -> int:
        """Bits on disk."""
        width = 4 if self.dtype == "int4" else self.array.dtype.itemsize * 8
        return self.array.size * width


@dataclass(frozen=True)
class Op:
    """One operation. ``attributes`` are integers; ``constants`` maps a parameter to the name of a constant."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, int] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KVLayer:
    """The cache of one layer: shape of an entry, and the constant entries it starts with, (P, G, D) uint8."""

    num_kv_heads: int
    head_dim: int
    keys: str
    values: str


@dataclass(frozen=True)
class IntegerGraph:
    """A whole decoder: ids in, integer logits (the tensor ``output``) out.

    ``context`` is the largest position + 1; ``num_prefix`` constant entries open each KV cache, so token t of a
    sequence stands at position num_prefix + t.
    """

    tensors: Mapping[str, TensorSpec]
    ops: tuple[Op, ...]
    constants: Mapping[str, Constant]
    caches: tuple[KVLayer, ...]
    output: str
    vocab_size: int
    context: int
    num_prefix: int = 0
    prefix_tokens: tuple[int, ...] = ()

    def linears(self) -> Iterator[Op]:
        """The ops that hold weight matrices, the embedding included."""
        return (op for op in self.ops if op.kind in ("linear", "embedding"))

    def float_ops(self) -> list[str]:
        """Names of ops that read or write anything that is not an integer; a valid graph has none."""
        return [op.output for op in self.ops if not self._is_integer(op)]

    def sixteen_bit(self) -> list[str]:
        """Names of all 16-bit activations."""
        return [tensor.name for tensor in self.tensors.values() if tensor.dtype == "int16"]

    def _is_integer(self, op: Op) -> bool:
        arrays = (self.constants[name].array for name in op.constants.values())
        activations = [name for name in (*op.inputs, op.output) if name != TOKENS]
        return (
            all(np.issubdtype(array.dtype, np.integer) for array in arrays)
            and all(type(value) is int for value in op.attributes.values())
            and all(self.tensors[name].dtype in BY_NAME for name in activations)
        )
