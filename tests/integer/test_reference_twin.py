"""A second interpreter, written from docs/integer-semantics.md alone in unbounded integers, gives the same codes.

Arrays have dtype=object: their elements are Python integers, so nothing here can overflow or round.
"""

import math

import numpy as np
import pytest
import torch

from mobilequant.integer.interpreter import Interpreter

TOKENS = [3, 77, 3, 0, 95, 41, 12, 8]


class Twin:
    """§2: one sequence from the start; values by tensor name, caches by layer."""

    def __init__(self, graph):
        self.graph = graph
        self.values = {}
        self.keys = [self.integers(cache.keys) for cache in graph.caches]
        self.cached_values = [self.integers(cache.values) for cache in graph.caches]

    def run(self, tokens):
        self.tokens = tokens
        self.positions = [self.graph.num_prefix + t for t in range(len(tokens))]
        for op in self.graph.ops:
            self.op, self.a = op, op.attributes
            self.values[op.output] = getattr(self, op.kind)()
        return self.values

    def integers(self, name):
        return self.graph.constants[name].array.astype(object)

    def constant(self, parameter):
        return self.integers(self.op.constants[parameter])

    def has(self, parameter):
        return parameter in self.op.constants

    def codes(self, number=0):
        return self.values[self.op.inputs[number]]

    def spec(self, number=0):
        return self.graph.tensors[self.op.inputs[number]]

    def x(self, number=0):
        return self.codes(number) - self.spec(number).zero_point

    def saturated(self, v):
        out = self.graph.tensors[self.op.output]
        return np.minimum(np.maximum(v + out.zero_point, out.qmin), out.qmax)

    def requantized(self, v, mantissa=None, shift=None):
        assert np.abs(v).max() < 2**31
        mantissa = self.a["mantissa"] if mantissa is None else mantissa
        return self.saturated(rescale(v, mantissa, self.a["shift"] if shift is None else shift))

    def heads(self, rows, size):
        return rows.reshape(len(rows), -1, size)

    def sees(self, i, j, window):
        return j <= i and (window == 0 or i - j < window or j < self.graph.num_prefix)

    def embedding(self):
        rows = zip(self.tokens, self.positions, strict=True)
        return self.saturated(np.array([self.embedding_row(n, p) for n, p in rows], dtype=object))

    def embedding_row(self, n, p):
        e, e_p = (self.constant(each) if self.has(each) else 0 for each in ("exponent", "position_exponent"))
        y = rescale(self.constant("codes")[n], self.constant("mantissa")[n], self.constant("shift")[n] + e)
        if not self.has("position_codes"):
            return y
        mantissa, shift = self.constant("position_mantissa")[p], self.constant("position_shift")[p]
        return y + rescale(self.constant("position_codes")[p], mantissa, shift + e_p)

    def linear(self):
        weights = self.constant("codes")
        if self.has("group_multiplier"):
            m = self.constant("group_multiplier")
            group = weights.shape[1] // m.shape[1]
            weights = np.array([[w * m[o, i // group] for i, w in enumerate(row)] for o, row in enumerate(weights)])
        acc = self.x().dot(weights.T.astype(object))
        if self.has("bias"):
            acc = acc + self.constant("bias")
        assert np.abs(acc).max() <= self.a["accumulator_bound"] < 2**31
        return self.requantized(acc, self.constant("mantissa"), self.constant("shift"))

    def norm(self):
        rows = self.x().reshape(-1, self.a["group"])
        t = np.array([self.norm_row([int(x) for x in row]) for row in rows], dtype=object)
        return self.requantized(t).reshape(self.codes().shape)

    def norm_row(self, x):
        n = len(x)
        if self.has("exponent"):
            x = [v * 2 ** int(e) for v, e in zip(x, self.constant("exponent"), strict=True)]
        m = sum(x) if self.a["subtract_mean"] else 0
        q = max(n * sum(v * v for v in x) - m * m + self.a["epsilon"], 1)
        assert q < 2**62
        assert max(abs(n * v - m) for v in x) < 2**31
        k = (62 - q.bit_length()) // 2
        inv = 2**61 // math.isqrt(q * 4**k)
        z = [((n * v - m) * inv + 2 ** (44 - k)) >> (45 - k) for v in x]
        bias = self.constant("bias") if self.has("bias") else [0] * n
        return [((v * g + 2**14) >> 15) + b for v, g, b in zip(z, self.constant("gain"), bias, strict=True)]

    def rope(self):
        x = self.heads(self.x(), self.a["head_dim"])
        cos, sin = self.constant("cos")[self.positions], self.constant("sin")[self.positions]
        half = cos.shape[1]
        u = x * 2**14
        for i in range(half):
            c, s = cos[:, i, None], sin[:, i, None]
            u[:, :, i] = x[:, :, i] * c - x[:, :, i + half] * s
            u[:, :, i + half] = x[:, :, i + half] * c + x[:, :, i] * s
        return self.requantized(u).reshape(self.codes().shape)

    def attention_scores(self):
        layer, size = self.a["layer"], self.a["head_dim"]
        self.keys[layer] = np.concatenate([self.keys[layer], self.heads(self.codes(1), size)])
        q, key = self.heads(self.x(0), size), self.keys[layer] - 128
        H, G = q.shape[1], key.shape[1]
        return self.requantized(np.array([q[:, h].dot(key[:, h * G // H].T) for h in range(H)]))

    def softmax(self):
        return np.array([[self.softmax_row(row, i) for i, row in zip(self.positions, head, strict=True)]
                         for head in self.codes()], dtype=object)  # fmt: skip

    def softmax_row(self, x, i):
        seen = [j for j in range(len(x)) if self.sees(i, j, self.a["window"])]
        largest, e, table = max(x[j] for j in seen), {}, self.constant("table")
        for j in seen:
            t = rescale(largest - x[j], self.a["mantissa"], self.a["shift"])
            a = min(t >> 8, 17)
            e[j] = (table[t & 255] + 2**a // 2) >> a
        total, one = sum(e.values()), self.a["one"]
        qmax = self.graph.tensors[self.op.output].qmax
        return [min((2 * one * e[j] + total) // (2 * total), qmax) if j in e else 0 for j in range(len(x))]

    def attention_context(self):
        layer, p = self.a["layer"], self.codes()
        self.cached_values[layer] = np.concatenate(
            [self.cached_values[layer], self.heads(self.codes(1), self.a["head_dim"])]
        )
        value = self.cached_values[layer] - 128
        H, G = len(p), value.shape[1]
        context = np.array([p[h].dot(value[:, h * G // H]) for h in range(H)])
        return self.requantized(context.transpose(1, 0, 2).reshape(len(self.tokens), -1))

    def table8(self):
        return self.constant("table")[self.codes().astype(int)]

    def table16(self):
        table, x = self.constant("table"), self.codes()
        i, f = ((x + 2**15) >> 7).astype(int), x & 127
        n = {"int16": 7, "uint8": 14}[self.graph.tensors[self.op.output].dtype]
        return (table[i] * 128 + (table[i + 1] - table[i]) * f + 2 ** (n - 1)) >> n

    def multiply(self):
        return self.requantized(self.x(0) * self.x(1))

    def add(self):
        a, b = (rescale(self.x(n), self.a[f"mantissa_{s}"], self.a[f"shift_{s}"]) for n, s in enumerate("ab"))
        return self.requantized(a + b)


def rescale(v, mantissa, shift):
    """§1; per-channel mantissas and shifts are object arrays too."""
    return (v * mantissa + 2 ** (shift - 1)) >> shift


CASES = {
    "rms norm, rope, gate, grouped 4-bit": ("llama", "static_w4g16_a8_kv8", {}),
    "layer norm, learned positions, biases, relu": ("opt", "static_w8c_a8_kv8", {"wide": ("act",)}),
    "parallel residual, gelu, partial rope, 16-bit probabilities": (
        "gpt_neox", "static_w4c_a8_kv8", {"wide": ("probs",)}
    ),
    "soft-caps, post norms, windows": ("gemma2", "static_w4c_a8_kv8", {}),
    "8-bit scores and outputs": ("llama", "static_w8c_a8_kv8", {"narrow": ("scores", "o", "down")}),
    "8-bit scores and outputs, biases": ("opt", "static_w8c_a8_kv8", {"narrow": ("scores", "o", "down")}),
    "8-bit soft-caps of 16-bit scores, 8-bit post norms": (
        "gemma2", "static_w4c_a8_kv8", {"narrow": ("capped", "attn_post_norm", "mlp_post_norm")}
    ),
    "16-bit soft-caps of 8-bit scores": ("gemma2", "static_w8c_a8_kv8", {"narrow": ("scores",)}),
    "8-bit soft-caps of 8-bit scores": ("gemma2", "static_w8c_a8_kv8", {"narrow": ("scores", "capped")}),
    "head norms, windows, no prefix": ("gemma3_text", "static_w8c_a8_kv8", {"prefix": ()}),
    "residual of one step": ("gemma3_text", "static_w8c_a8_kv8", {"ptf": False}),
    "residual of one step, learned positions": ("gpt2", "static_w8c_a8_kv8", {"ptf": False}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_equals_the_twins(case, tiny_graph):
    name, scheme, options = CASES[case]
    graph = tiny_graph(name, scheme, **options)
    twin = Twin(graph)
    expected = twin.run(TOKENS)
    seen = {}
    interpreter = Interpreter(graph)
    interpreter.run(torch.tensor(TOKENS), interpreter.state(), lambda spec, codes: seen.update({spec.name: codes}))
    assert seen.keys() == expected.keys()
    for op in graph.ops:
        found, wanted = seen[op.output].numpy().astype(object), expected[op.output]
        assert found.shape == wanted.shape
        if op.kind in ("attention_scores", "table8", "table16") and found.ndim == 3:
            visible = scores_with_a_meaning(graph, op.output, twin)
            found, wanted = found[:, visible], wanted[:, visible]
        assert (found == wanted).all(), op.output


def scores_with_a_meaning(graph, name, twin):
    """(T, S): scores of positions that a token does not see have none."""
    layer = name.split(".")[1]
    window = next(op for op in graph.ops if op.output == f"layers.{layer}.probs").attributes["window"]
    cached = range(graph.num_prefix + len(TOKENS))
    return np.array([[twin.sees(i, j, window) for j in cached] for i in twin.positions])


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_extremes_saturate_alike(name, tiny_graph):
    graph = tiny_graph(name)
    interpreter = Interpreter(graph)
    for token in (0, graph.vocab_size - 1):
        expected = Twin(graph).run([token] * 5)[graph.output]
        assert (interpreter.run(torch.tensor([token] * 5), interpreter.state()).numpy() == expected).all()
