"""Graphs made by hand around one operation: any codes go in, and logits that depend on all of its output come out."""

from dataclasses import dataclass, field, replace

import numpy as np

from mobilequant.integer.bound import INT32_MAX, accumulator_bound
from mobilequant.integer.graph import TOKENS, Constant, IntegerGraph, KVLayer, Op, TensorSpec
from mobilequant.integer.schema import validate

LARGEST = {"uint8": 255, "int16": 32767}
_HIGH_STEP = {"uint8": 1, "int16": 258}  # 127 of them and 127 reach every limit


@dataclass
class Making:
    """A graph in the making. Its texts are the tokens 0, 1, …, one for each position behind the prefix."""

    rng: np.random.Generator
    num_tokens: int
    num_prefix: int = 0
    tensors: dict = field(default_factory=dict)
    ops: list = field(default_factory=list)
    constants: dict = field(default_factory=dict)
    caches: list = field(default_factory=list)

    @property
    def context(self):
        return self.num_tokens + self.num_prefix

    def tensor(self, name, dtype, channels, *, zero_point=0, qmin=None, qmax=None):
        """Describe a tensor; limits left out are those of its type."""
        lowest = 0 if dtype == "uint8" else -32767
        limits = (lowest if qmin is None else qmin, LARGEST[dtype] if qmax is None else qmax)
        self.tensors[name] = TensorSpec(name, dtype, zero_point, *limits, 1.0, channels)
        return name

    def constant(self, name, dtype, array):
        held = "int8" if dtype == "int4" else dtype
        self.constants[name] = Constant(dtype, np.ascontiguousarray(array, dtype=held))
        return name

    def op(self, kind, inputs, output, *, constants=None, **attributes):
        """Add an operation; ``constants`` maps a parameter to dtype and array."""
        names = {
            parameter: self.constant(f"{output}.{parameter}", *value) for parameter, value in (constants or {}).items()
        }
        plain = {name: int(value) for name, value in attributes.items()}
        self.ops.append(Op(kind, tuple(inputs), output, plain, names))
        return output

    def source(self, name, codes, dtype, **limits):
        """A tensor whose row t holds the codes (T, C), as near as they can be made of two bytes and the limits."""
        self.tensor(name, dtype, codes.shape[1], **limits)
        step, x = _HIGH_STEP[dtype], codes.astype(np.int64) - self.tensors[name].zero_point
        high = np.clip((2 * x + step) // (2 * step), -127, 127)
        positions = np.zeros((self.context, codes.shape[1]))
        positions[self.num_prefix :] = np.clip(x - step * high, -127, 127)
        rows, shift = {"shift": (self.num_tokens, 2), "mantissa": (self.num_tokens, 4 * step)}, 2
        table = {
            "codes": ("int8", high),
            "mantissa": ("int32", np.full(*rows["mantissa"])),
            "shift": ("int8", np.full(*rows["shift"])),
            "position_codes": ("int8", positions),
            "position_mantissa": ("int32", np.full(self.context, 1 << shift)),
            "position_shift": ("int8", np.full(self.context, shift)),
        }
        return self.op("embedding", [TOKENS], name, constants=table)

    def linear(self, source, output, codes, *, mantissa, shift, bits=8, bias=None, multiplier=None):
        """The tensors must have been described."""
        constants = {
            "codes": (f"int{bits}", codes), "mantissa": ("int32", mantissa), "shift": ("int8", shift),
            **({"bias": ("int32", bias)} if bias is not None else {}),
            **({"group_multiplier": ("uint8", multiplier)} if multiplier is not None else {}),
        }  # fmt: skip
        bound = accumulator_bound(codes, multiplier, bias, self.tensors[source].qparams())
        return self.op("linear", [source], output, constants=constants, accumulator_bound=bound)

    def cache(self, heads, head_dim, keys, values):
        """The cache of the next layer, with the codes (P, G, D) of its prefix."""
        layer = len(self.caches)
        names = [self.constant(f"{layer}.{n}", "uint8", a) for n, a in (("keys", keys), ("values", values))]
        self.caches.append(KVLayer(heads, head_dim, *names))
        return layer

    def graph(self, *last):
        """End in logits that mix all channels of these tensors."""
        mixed = [self._mix(name, f"logits of {name}") for name in last]
        for name in mixed[1:]:
            factors = {"mantissa_a": 1 << 29, "shift_a": 29, "mantissa_b": 1 << 29, "shift_b": 29}
            total = self.tensor(f"{mixed[0]} and {name}", "int16", self.num_tokens)
            mixed[0] = self.op("add", [mixed[0], name], total, **factors, mantissa=1 << 29, shift=30)
        made = IntegerGraph(
            self.tensors, tuple(self.ops), self.constants, tuple(self.caches), mixed[0], self.num_tokens,
            self.context, self.num_prefix, (0,) * self.num_prefix,
        )  # fmt: skip
        validate(made)
        return made

    def _mix(self, source, output):
        self.tensor(output, "int16", self.num_tokens)
        channels = self.tensors[source].channels
        spec, codes = self.tensors[source].qparams(), self.rng.integers(-127, 128, (self.num_tokens, channels))
        while (bound := accumulator_bound(codes, None, None, spec)) > INT32_MAX:
            codes = codes // 2
        mantissa, shift = factor_near(32767 * 4 / max(bound, 1), 40)
        rows = {"mantissa": np.full(self.num_tokens, mantissa), "shift": np.full(self.num_tokens, shift)}
        return self.linear(source, output, codes, **rows)


def factor_near(ratio, shift):
    """Mantissa and shift of about this ratio, with this shift or the next that the mantissa allows."""
    while shift > 2 and ratio * 2.0**shift >= 2**31:
        shift -= 1
    return int(min(ratio * 2.0**shift, 2**31 - 1)), shift


def bound_left(codes, multiplier, spec):
    """What |bias| of each row may be: then the bound of the accumulator is 2^31 − 1."""
    source = replace(spec).qparams()
    rows = [
        accumulator_bound(codes[row : row + 1], None if multiplier is None else multiplier[row : row + 1], None, source)
        for row in range(len(codes))
    ]
    return INT32_MAX - np.array(rows)
