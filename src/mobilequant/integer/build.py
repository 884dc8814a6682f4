"""GraphBuilder: turns real parameters into the integers of each kind of op, one method per kind."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from mobilequant.arch.architecture import Rope
from mobilequant.errors import LoweringError
from mobilequant.integer.bound import check_accumulator
from mobilequant.integer.graph import TOKENS, Constant, Op, TensorSpec
from mobilequant.integer.ops.elementwise import ADD_HEADROOM_BITS
from mobilequant.integer.ops.norm import GAIN_SHIFT, STANDARDIZED_BITS
from mobilequant.integer.ops.rope import TABLE_BITS, rope_tables
from mobilequant.integer.ops.softmax import OCTAVE_BITS, exp2_table
from mobilequant.integer.ops.table import RealFunction, table8, table16
from mobilequant.integer.shape import MAX_CHANNELS, PROBABILITY_ONE, TABLE16_FRACTION_BITS
from mobilequant.models.quantized import quantize
from mobilequant.numerics.fixed_point import MAX_SHIFT, MIN_SHIFT, Multiplier, multiplier, multipliers
from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.weight import QuantizedWeight


class GraphBuilder:
    """Collects tensors, ops and constants in running order."""

    def __init__(self, activations: dict[str, QParams]) -> None:
        self.activations = activations
        self.tensors: dict[str, TensorSpec] = {}
        self.ops: list[Op] = []
        self.constants: dict[str, Constant] = {}
        self._rotations: dict[Rope, tuple[str, str]] = {}  # cosines and sines

    def embedding(
        self,
        output: str,
        table: QuantizedWeight,
        factor: float,
        positions: QuantizedWeight | None,
        *,
        column_scale: torch.Tensor | None = None,
        residual_scale: torch.Tensor | None = None,
    ) -> None:
        """Rows of the quantized embedding times ``factor``, plus rows of the learned positions where there are any.

        ``column_scale`` (C,) divides the former, ``residual_scale`` (C,) the sum; both are powers of two.
        """
        target = self._tensor(output, table.codes.shape[1])
        exponent = self.residual_exponent(residual_scale)
        rows = exponent
        if column_scale is not None:
            rows = self.exponent("embed", column_scale * (1 if residual_scale is None else residual_scale))
        constants = self._rows("embed", "", table, factor / target.scale, rows)
        if positions is not None:
            constants |= self._rows("positions", "position_", positions, 1 / target.scale, exponent)
        self._add(Op("embedding", (TOKENS,), output, {}, constants))

    def _rows(self, name: str, parameter: str, table: QuantizedWeight, factor: float, exponent: str) -> dict[str, str]:
        room = int(self.constants[exponent].array.max()) if exponent else 0
        mantissa, shift = self._multipliers(name, table.scale.double().numpy() * factor, room)
        codes = self._constant(f"{name}.codes", table.qtype.name, table.codes.numpy())
        stored = {"codes": codes, "mantissa": mantissa, "shift": shift} | ({"exponent": exponent} if exponent else {})
        return {f"{parameter}{key}": constant for key, constant in stored.items()}

    def norm(
        self,
        source: str,
        output: str,
        gain: torch.Tensor,
        bias: torch.Tensor | None,
        *,
        eps: float,
        subtract_mean: bool,
        exponent: str = "",
    ) -> None:
        """RMSNorm or LayerNorm over groups of ``len(gain)`` channels (a head, or the whole row).

        ``exponent``: the constant by which the channels of the source are shifted up before, see ``exponent()``.
        """
        group = gain.numel()
        if group > MAX_CHANNELS:
            raise LoweringError(
                f"{output}: {group} channels are more than the {MAX_CHANNELS} of an integer norm", _REPORT
            )
        spec, target = self.tensors[source], self._tensor(output, self.tensors[source].channels)
        step = _gain_step(gain, bias)
        epsilon = round(eps * group**2 / spec.scale**2)
        constants = {"gain": self._constant(f"{output}.gain", "int16", _rounded(gain, step, np.int16))}
        if exponent:
            constants["exponent"] = exponent
        # After the shift by GAIN_SHIFT one unit of the sum stands for this many real units.
        unit = step * 2.0 ** (GAIN_SHIFT - STANDARDIZED_BITS)
        if bias is not None:
            constants["bias"] = self._constant(f"{output}.bias", "int32", _rounded(bias, unit, np.int32))
        factor = self._multiplier(output, unit / target.scale)
        attributes = {"epsilon": epsilon, "subtract_mean": int(subtract_mean), "group": group, **_attributes(factor)}
        self._add(Op("norm", (source,), output, attributes, constants))

    def linear(
        self,
        source: str,
        output: str,
        name: str,
        weight: QuantizedWeight,
        bias: torch.Tensor | None,
        *,
        shared_with_embedding: bool = False,
    ) -> None:
        """A matrix product with its bias in the accumulator and one rescale per output channel."""
        spec, target = self.tensors[source], self._tensor(output, weight.codes.shape[0])
        accumulator_scale = weight.scale.double().numpy() * spec.scale
        codes = weight.codes.numpy()
        # A tied head is the embedding's matrix: stored once.
        stored = "embed" if shared_with_embedding else name
        constants = {"codes": self._constant(f"{stored}.codes", weight.qtype.name, codes)}
        group_multiplier = None
        if weight.group_multiplier is not None:
            group_multiplier = weight.group_multiplier.numpy()
            constants["group_multiplier"] = self._constant(f"{name}.group_multiplier", "uint8", group_multiplier)
        integer_bias = None
        if bias is not None:
            integer_bias = _rounded(bias, accumulator_scale, np.int32)
            constants["bias"] = self._constant(f"{name}.bias", "int32", integer_bias)
        bound = check_accumulator(name, codes, group_multiplier, integer_bias, spec.qparams())
        constants["mantissa"], constants["shift"] = self._multipliers(name, accumulator_scale / target.scale)
        self._add(Op("linear", (source,), output, {"accumulator_bound": bound}, constants))

    def rope(self, source: str, output: str, rope: Rope, head_dim: int, positions: int) -> None:
        """Rotary embedding of every head; layers with equal frequencies share their tables."""
        spec, target = self.tensors[source], self._tensor(output, self.tensors[source].channels)
        cos, sin = self._rope_tables(rope, positions)
        factor = self._multiplier(output, spec.scale / target.scale / (1 << TABLE_BITS))
        attributes = {"head_dim": head_dim, **_attributes(factor)}
        self._add(Op("rope", (source,), output, attributes, {"cos": cos, "sin": sin}))

    def attention(self, kind: str, a: str, b: str, output: str, real: float, channels: int, **attributes: int) -> None:
        """Scores (q, k) or context (probabilities, v): a product of activations, appending b to the layer's cache."""
        target = self._tensor(output, channels)
        factor = self._multiplier(output, self.tensors[a].scale * self.tensors[b].scale * real / target.scale)
        self._add(Op(kind, (a, b), output, {**attributes, **_attributes(factor)}))

    def softmax(self, source: str, output: str, channels: int, window: int) -> None:
        """Masked softmax over the cached tokens; the output format fixes the step, 1/256 or 2^−15."""
        target = self._tensor(output, channels)
        one = PROBABILITY_ONE[target.dtype]
        if target.zero_point != 0 or not math.isclose(target.scale, 1 / one):
            raise LoweringError(f"{output} must have scale 1/{one} and zero point 0", _REPORT)
        octaves = self.tensors[source].scale * math.log2(math.e) * (1 << OCTAVE_BITS)
        factor = self._multiplier(output, octaves)
        table = self._constant("softmax.exp2", "int32", exp2_table())
        self._add(
            Op("softmax", (source,), output, {"one": one, "window": window, **_attributes(factor)}, {"table": table})
        )

    def table(self, source: str, output: str, function: RealFunction) -> None:
        """A function of one tensor as a table."""
        spec = self.tensors[source]
        target = self._tensor(output, spec.channels)
        if spec.dtype == "uint8":
            kind, entries = "table8", table8(function, spec.qparams(), target.qparams())
        else:
            fraction_bits = TABLE16_FRACTION_BITS[target.dtype]
            kind, entries = "table16", table16(function, spec.qparams(), target.qparams(), fraction_bits)
        constant = self._constant(f"{output}.table", entries.dtype.name, entries)
        self._add(Op(kind, (source,), output, {}, {"table": constant}))

    def multiply(self, a: str, b: str, output: str) -> None:
        """Elementwise product."""
        target = self._tensor(output, self.tensors[a].channels)
        factor = self._multiplier(output, self.tensors[a].scale * self.tensors[b].scale / target.scale)
        self._add(Op("multiply", (a, b), output, _attributes(factor)))

    def add(self, a: str, b: str, output: str) -> None:
        """Elementwise sum."""
        target = self._tensor(output, self.tensors[a].channels)
        scales = [self.tensors[name].scale for name in (a, b)]
        common = max(scales) * 2.0**-ADD_HEADROOM_BITS
        attributes: dict[str, int] = {}
        for suffix, real in (("_a", scales[0] / common), ("_b", scales[1] / common), ("", common / target.scale)):
            attributes |= _attributes(self._multiplier(output, real), suffix)
        self._add(Op("add", (a, b), output, attributes))

    def prefix(self, name: str, heads: torch.Tensor, point: str) -> str:
        """The constant opening of a cache: real (G, P, D) → codes (P, G, D) of the point's format."""
        codes = quantize(heads.double(), self.tensors[point].qparams())
        return self._constant(name, "uint8", codes.to(torch.uint8).transpose(0, 1).contiguous().numpy())

    def _tensor(self, name: str, channels: int) -> TensorSpec:
        if name not in self.activations:
            raise LoweringError(f"{name} has no range", "Calibrate again: every activation needs static parameters.")
        q = self.activations[name]
        spec = TensorSpec(name, q.qtype.name, q.zero_point, q.qtype.qmin, q.qtype.qmax, q.scale, channels)
        self.tensors[name] = spec
        return spec

    def _constant(self, name: str, dtype: str, array: np.ndarray) -> str:
        self.constants.setdefault(name, Constant(dtype, np.ascontiguousarray(array)))
        return name

    def _rope_tables(self, rope: Rope, positions: int) -> tuple[str, str]:
        if rope not in self._rotations:
            cos, sin = rope_tables(rope, positions)
            name = f"rope{len(self._rotations)}"
            names = self._constant(f"{name}.cos", "int16", cos), self._constant(f"{name}.sin", "int16", sin)
            self._rotations[rope] = names
        return self._rotations[rope]

    def residual_exponent(self, scale: torch.Tensor | None) -> str:
        """The exponents of the residual stream, which all who need them share."""
        return self.exponent("residual", scale)

    def exponent(self, name: str, scale: torch.Tensor | None) -> str:
        """The name of a constant with the exponents of a scale (C,); "" where there is no scale."""
        if scale is None:
            return ""
        exponent = scale.double().log2().numpy()
        if not np.array_equal(exponent, np.rint(exponent).clip(0, MAX_SHIFT)):
            raise LoweringError(f"{name}: the scale is not a power of two", _REPORT)
        return self._constant(f"{name}.exponent", "uint8", exponent.astype(np.uint8))

    def _multipliers(self, name: str, reals: Sequence[float] | np.ndarray, room: int = 0) -> tuple[str, str]:
        """Factors whose shifts, plus ``room``, are still shifts."""
        try:
            mantissa, shift = multipliers([real * 2.0**-room for real in reals])
            shift = np.where(mantissa == 0, MIN_SHIFT, shift - room).astype(np.int8)
            if shift.min(initial=MIN_SHIFT) < MIN_SHIFT:
                raise ValueError("a rescale factor is 2^29 or more")
        except ValueError as error:
            raise LoweringError(f"{name}: {error}", _RANGE) from error
        return (
            self._constant(f"{name}.mantissa", "int32", mantissa),
            self._constant(f"{name}.shift", "int8", shift),
        )

    def _multiplier(self, name: str, real: float) -> Multiplier:
        try:
            return multiplier(real)
        except ValueError as error:
            raise LoweringError(f"{name}: {error}", _RANGE) from error

    def _add(self, op: Op) -> None:
        self.ops.append(op)


_RANGE = "The ranges of this tensor and its inputs differ too much: calibrate with more or other text."
_REPORT = "This model cannot be lowered; please report its architecture."


def _attributes(factor: Multiplier, suffix: str = "") -> dict[str, int]:
    return {f"mantissa{suffix}": factor.mantissa, f"shift{suffix}": factor.shift}


def _gain_step(gain: torch.Tensor, bias: torch.Tensor | None) -> float:
    """Step of the 16-bit gain; coarser only if the bias, in the same units, would leave 31 bits."""
    step = float(gain.abs().max()) / 32767
    if bias is not None:
        step = max(step, float(bias.abs().max()) / 2.0 ** (30 + GAIN_SHIFT - STANDARDIZED_BITS))
    return max(step, 1e-12)


def _rounded(values: torch.Tensor, step: float | np.ndarray, dtype: type) -> np.ndarray:
    limit = np.iinfo(dtype).max
    return np.rint(values.double().numpy() / step).clip(-limit, limit).astype(dtype)
