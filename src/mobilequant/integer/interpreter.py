"""The reference interpreter: runs an IntegerGraph op by op, bit for bit as ``docs/integer-semantics.md`` says.

It is written to be obviously right, not fast. Tensors hold integers; floating-point units serve only where the result
is proved exact (see ``ops.matrix`` and ``ops.softmax``), so CPU and CUDA give identical integers.

Shapes are those of one sequence. A batch puts its dimension before them: its sequences share the constants and know
nothing of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mobilequant.errors import UsageError
from mobilequant.integer.bound import effective_weights
from mobilequant.integer.graph import TOKENS, IntegerGraph, Op, TensorSpec
from mobilequant.integer.ops.elementwise import integer_add, integer_multiply
from mobilequant.integer.ops.matrix import exact_dtype, exact_matmul
from mobilequant.integer.ops.norm import integer_norm
from mobilequant.integer.ops.requantize import Output, centered, requantize
from mobilequant.integer.ops.rope import integer_rope
from mobilequant.integer.ops.softmax import exponential_table, integer_softmax
from mobilequant.integer.ops.table import look_up8, look_up16
from mobilequant.integer.shape import CACHE_ZERO_POINT, PROBABILITY_ONE, TABLE16_FRACTION_BITS
from mobilequant.models.decoder import visible_tokens
from mobilequant.numerics.fixed_point import rescale

CodesTap = Callable[[TensorSpec, Tensor], None]
_STORAGE = {"uint8": torch.uint8, "int16": torch.int16}


@dataclass
class State:
    """What decoding carries from call to call: the caches, (S, G, D) uint8 per layer, prefix entries first.

    ``batch`` stands before S once a batch has been run: (), or (B,).
    """

    position: int
    batch: torch.Size = field(default_factory=torch.Size)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)


class Interpreter:
    """Executes a graph on a device; all methods are pure except that ``run`` extends the state it is given."""

    def __init__(self, graph: IntegerGraph, device: str = "cpu") -> None:
        self.graph = graph
        self.device = torch.device(device)
        self.logits_scale = graph.tensors[graph.output].scale
        self._constants = {name: torch.from_numpy(c.array).to(device) for name, c in graph.constants.items()}
        self._matrices = {op.output: self._matrix(op) for op in graph.ops if op.kind == "linear"}
        self._exponentials = {op.output: self._exponential(op) for op in graph.ops if op.kind == "softmax"}

    def state(self) -> State:
        """A fresh state: the caches hold the constant prefix and nothing else."""
        caches = self.graph.caches
        return State(
            self.graph.num_prefix,
            keys=[self._constants[cache.keys] for cache in caches],
            values=[self._constants[cache.values] for cache in caches],
        )

    def run(self, tokens: Tensor, state: State, tap: CodesTap | None = None) -> Tensor:
        """Logits (T, V) int16 of token ids (T,), which continue ``state``; real logits are these · logits_scale.

        Or (B, T, V) of (B, T): B sequences side by side, each with the integers that it has alone. A state of one
        sequence is what all of a batch go on from. Shorter ones are filled up at the end with any tokens: no token
        sees what stands behind it.

        Args:
            tap: sees every activation under its description as soon as it is computed.

        Raises:
            UsageError: a token id outside the vocabulary, no token, no room left in the context, or a state of
                another batch.
        """
        self._check(tokens, state)
        values: dict[str, Tensor] = {TOKENS: tokens.to(self.device)}
        last_use = _last_use(self.graph)
        for number, op in enumerate(self.graph.ops):
            values[op.output] = _KERNELS[op.kind](self, op, values, state)
            if tap is not None:
                tap(self.graph.tensors[op.output], values[op.output])
            for name in op.inputs:
                if last_use.get(name) == number:
                    values.pop(name, None)  # an op may read the same tensor twice
        state.position, state.batch = state.position + tokens.shape[-1], tokens.shape[:-1]
        return values[self.graph.output]

    def logits(self, tokens: Tensor) -> Tensor:
        """Real logits (…, T, V) float32 of sequences (…, T) from the start, for use outside the graph."""
        return self.run(tokens, self.state()).to(torch.float32) * self.logits_scale

    def _check(self, tokens: Tensor, state: State) -> None:
        if tokens.numel() == 0:
            raise UsageError("there is no token to run", "Give at least one token.")
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.graph.vocab_size:
            raise UsageError(
                f"token ids {low}…{high} leave the vocabulary of {self.graph.vocab_size}",
                "Use the tokenizer that lies in the package.",
            )
        if state.batch not in ((), tokens.shape[:-1]):
            raise UsageError(
                f"tokens {tuple(tokens.shape)} cannot continue a batch of {tuple(state.batch)}",
                "Give every sequence of the batch its next tokens, or begin with a new state.",
            )
        if state.position + tokens.shape[-1] > self.graph.context:
            raise UsageError(
                f"{tokens.shape[-1]} tokens after position {state.position} exceed the context of {self.graph.context}",
                "Shorten the text, or quantize again with a larger context.",
            )

    def _matrix(self, op: Op) -> Tensor:
        """The (I, O) matrix of a linear in the floating type that forms its sums exactly."""
        codes = self.graph.constants[op.constants["codes"]].array
        groups = op.constants.get("group_multiplier")
        weights = effective_weights(codes, self.graph.constants[groups].array if groups else None)
        matrix = torch.from_numpy(weights).to(self.device, exact_dtype(op.attributes["accumulator_bound"]))
        return matrix.t()

    def _exponential(self, op: Op) -> Tensor:
        return exponential_table(self._constant(op, "table"), op.attributes["mantissa"], op.attributes["shift"])

    def _embedding(self, op: Op, values: Mapping[str, Tensor], state: State) -> Tensor:
        tokens = values[op.inputs[0]].to(torch.int64)
        total = self._look_up(op, "", tokens)
        if "position_codes" in op.constants:
            total = total + self._look_up(op, "position_", self._positions(tokens.shape[-1], state))
        output = self._output(op)
        return (total + output.zero_point).clamp_(output.qmin, output.qmax).to(output.dtype)

    def _look_up(self, op: Op, table: str, rows: Tensor) -> Tensor:
        codes, mantissa, shift = (
            self._constant(op, f"{table}{name}")[rows].to(torch.int64) for name in ("codes", "mantissa", "shift")
        )
        exponent = self._optional(op, f"{table}exponent")
        shifts = shift[..., None] if exponent is None else shift[..., None] + exponent
        return rescale(codes, mantissa[..., None], shifts)

    def _norm(self, op: Op, values: Mapping[str, Tensor], state: State) -> Tensor:
        a = op.attributes
        rows = values[op.inputs[0]].unflatten(-1, (-1, a["group"]))
        normed = integer_norm(
            rows,
            zero_point=self._zero_point(op.inputs[0]),
            epsilon=a["epsilon"],
            subtract_mean=bool(a["subtract_mean"]),
            gain=self._constant(op, "gain"),
            bias=self._optional(op, "bias"),
            exponent=self._optional(op, "exponent"),
            mantissa=a["mantissa"],
            shift=a["shift"],
            output=self._output(op),
        )
        return normed.flatten(-2)

    def _linear(self, op: Op, values: Mapping[str, Tensor], state: State) -> Tensor:
        # Usually no conversion: only where float32 has become less exact since the matrix was made.
        matrix = self._matrices[op.output].to(exact_dtype(op.attributes["accumulator_bound"]))
        x = centered(values[op.inputs[0]], self._zero_point(op.inputs[0]))
        accumulator = (x.to(matrix.dtype) @ matrix).to(torch.int64)
        if "bias" in op.constants:
            accumulator += self._constant(op, "bias")
        mantissa, shift = (self._constant(op, name).to(torch.int64) for name in ("mantissa", "shift"))
        return requantize(accumulator, mantissa, shift, self._output(op))

    def _rope(self, op: Op, values: Mapping[str, Tensor], state: State) -> Tensor:
        heads = values[op.inputs[0]].unflatten(-1, (-1, op.attributes["head_dim"]))
        positions = self._positions(heads.shape[-3], state)
        turned = integer_rope(
            heads,
            self._constant(op, "cos")[positions],
            self._constant(op, "sin")[positions],
            zero_point=self._zero_point(op.inputs[0]),
            mantissa=op.attributes["mantissa"],
            shift=op.attributes["shift"],
            output=self._output(op),
        )
        return turned.flatten(-2)

    def _scores(self, op: Op, values: Mapping[str, Tensor], state: State) -> Tensor:
        """(T, H·D) × cache (S, G, D) → (H, T, S)."""
        head_dim = op.attributes["head_dim"]
        query = values[op.inputs[0]].unflatten(-1, (-1, head_dim))
        query = centered(query, self._zero_point(op.inputs[0])).transpose(-3, -2)
        keys = self._cached(op, values, state.keys).transpose(-2, -1)
        bound = 128 * 128 * head_dim
        return self._requantized(op, exact_matmul(query, keys, bound))

    def _context(self, op: Op, values: Mapping[str, Tensor], state: State) -> Tensor:
        """(H, T, S) × cache (S, G, D) → (T, H·D)."""
        probs = values[op.inputs[0]]
        # Rounded probabilities sum to at most one + S/2.
        bound = 128 * (PROBABILITY_ONE[self.graph.tensors[op.inputs[0]].dtype] + probs.shape[-1])
        accumulator = exact_matmul(probs, self._cached(op, values, state.values), bound)
        return self._requantized(op, accumulator.transpose(-3, -2).flatten(-2))

    def _cached(self, op: Op, values: Mapping[str, Tensor], caches: list[Tensor]) -> Tensor:
        """Puts the second operand at the end of the layer's cache, and gives all of it to every query head: (H, S, D),
        centered."""
        layer, heads = op.attributes["layer"], op.attributes["num_heads"]
        new = values[op.inputs[1]].unflatten(-1, (-1, op.attributes["head_dim"]))
        before = caches[layer].expand(*new.shape[:-3], -1, -1, -1)
        caches[layer] = torch.cat((before, new), dim=-3)
        cached = centered(caches[layer], CACHE_ZERO_POINT).transpose(-3, -2)
        return cached.repeat_interleave(heads // self.graph.caches[layer].num_kv_heads, dim=-3)

    def _softmax(self, op: Op, values: Mapping[str, Tensor], state: State) -> Tensor:
        a, output = op.attributes, self._output(op)
        scores = values[op.inputs[0]]
        num_tokens, num_cached = scores.shape[-2:]
        window = a["window"] or None
        visible = visible_tokens(num_tokens, num_cached - num_tokens, self.graph.num_prefix, window, self.device)
        probs = integer_softmax(scores, visible, self._exponentials[op.output], one=a["one"], qmax=output.qmax)
        return probs.to(output.dtype)

    def _table8(self, op: Op, values: Mapping[str, Tensor], state: State) -> Tensor:
        return look_up8(values[op.inputs[0]], self._constant(op, "table"))

    def _table16(self, op: Op, values: Mapping[str, Tensor], state: State) -> Tensor:
        output = self.graph.tensors[op.output].dtype
        codes = look_up16(values[op.inputs[0]], self._constant(op, "table"), TABLE16_FRACTION_BITS[output])
        return codes.to(_STORAGE[output])

    def _multiply(self, op: Op, values: Mapping[str, Tensor], state: State) -> Tensor:
        a, b = op.inputs
        return integer_multiply(
            values[a],
            values[b],
            zero_points=(self._zero_point(a), self._zero_point(b)),
            mantissa=op.attributes["mantissa"],
            shift=op.attributes["shift"],
            output=self._output(op),
        )

    def _add(self, op: Op, values: Mapping[str, Tensor], state: State) -> Tensor:
        a, b = op.inputs
        factors = tuple((op.attributes[f"mantissa{s}"], op.attributes[f"shift{s}"]) for s in ("_a", "_b", ""))
        zero_points = (self._zero_point(a), self._zero_point(b))
        return integer_add(values[a], values[b], zero_points=zero_points, factors=factors, output=self._output(op))

    def _requantized(self, op: Op, accumulator: Tensor) -> Tensor:
        return requantize(accumulator, op.attributes["mantissa"], op.attributes["shift"], self._output(op))

    def _output(self, op: Op) -> Output:
        spec = self.graph.tensors[op.output]
        return Output(spec.zero_point, spec.qmin, spec.qmax, _STORAGE[spec.dtype])

    def _zero_point(self, name: str) -> int:
        return self.graph.tensors[name].zero_point

    def _constant(self, op: Op, parameter: str) -> Tensor:
        return self._constants[op.constants[parameter]]

    def _optional(self, op: Op, parameter: str) -> Tensor | None:
        return self._constant(op, parameter) if parameter in op.constants else None

    def _positions(self, num_tokens: int, state: State) -> Tensor:
        return torch.arange(state.position, state.position + num_tokens, device=self.device)


_KERNELS: dict[str, Callable[[Interpreter, Op, Mapping[str, Tensor], State], Tensor]] = {
    "embedding": Interpreter._embedding,
    "norm": Interpreter._norm,
    "linear": Interpreter._linear,
    "rope": Interpreter._rope,
    "attention_scores": Interpreter._scores,
    "attention_context": Interpreter._context,
    "softmax": Interpreter._softmax,
    "table8": Interpreter._table8,
    "table16": Interpreter._table16,
    "multiply": Interpreter._multiply,
    "add": Interpreter._add,
}


def _last_use(graph: IntegerGraph) -> dict[str, int]:
    """The last op that reads each tensor, so that it can be freed there."""
    last = {name: number for number, op in enumerate(graph.ops) for name in op.inputs}
    last.pop(graph.output, None)
    return last
