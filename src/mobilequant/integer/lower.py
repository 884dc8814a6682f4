"""Lowering: a quantized model becomes an IntegerGraph. Nothing is estimated here; every real number is already fixed.

The walk mirrors ``models.decoder`` step by step, with the same names, so that the two can be compared anywhere.
"""

from __future__ import annotations

import math

import numpy as np

from mobilequant.arch import point
from mobilequant.errors import LoweringError, PackageError
from mobilequant.integer.build import GraphBuilder
from mobilequant.integer.graph import IntegerGraph, KVLayer
from mobilequant.integer.ops.table import RealFunction
from mobilequant.integer.schema import validate
from mobilequant.models.quantized import QuantizedModel

DEFAULT_CONTEXT = 2048


def lower(quantized: QuantizedModel, *, context: int | None = None) -> IntegerGraph:
    """The integer graph of a quantized model for at most ``context`` positions (prefix included).

    Raises:
        LoweringError: an accumulator could overflow, a range is missing, the context is out of reach, or the format
            of a tensor has no meaning where it stands (16-bit keys).
    """
    arch = quantized.model.arch
    context = min(arch.max_context, DEFAULT_CONTEXT) if context is None else context
    num_prefix = len(quantized.prefix) if quantized.prefix else 0
    if not num_prefix < context <= arch.max_context:
        raise LoweringError(
            f"a context of {context} does not fit this model (prefix {num_prefix}, maximum {arch.max_context})",
            f"Choose a context between {num_prefix + 1} and {arch.max_context}.",
        )
    walk = _Walk(quantized, context)
    residual = walk.embed()
    for layer in range(arch.num_layers):
        residual = walk.block(layer, residual)
    output = walk.head(residual)
    graph = IntegerGraph(
        tensors=walk.build.tensors,
        ops=tuple(walk.build.ops),
        constants=walk.build.constants,
        caches=tuple(walk.cache(layer) for layer in range(arch.num_layers)),
        output=output,
        vocab_size=arch.vocab_size,
        context=context,
        num_prefix=num_prefix,
        prefix_tokens=quantized.prefix.tokens if quantized.prefix else (),
    )
    try:
        validate(graph)
    except PackageError as error:
        raise LoweringError(error.message, "Choose other precisions or ranges for the tensor that is named.") from error
    return graph


class _Walk:
    """One pass over the model, emitting ops; each method returns the name of the tensor it wrote."""

    def __init__(self, quantized: QuantizedModel, context: int) -> None:
        self.quantized = quantized
        self.model = quantized.model
        self.arch = quantized.model.arch
        self.context = context
        self.build = GraphBuilder(dict(quantized.activations))

    def embed(self) -> str:
        weights = self.quantized.weights
        positions = weights[point.POSITIONS] if self.arch.learned_positions else None
        self.build.embedding(
            point.EMBED, weights[point.EMBED], self.arch.embedding_scale, positions,
            column_scale=self.model.tensors.get(point.COLUMN_SCALE), residual_scale=self.model.residual_scale,
        )  # fmt: skip
        return point.EMBED

    def block(self, layer: int, residual: str) -> str:
        def at(role: str) -> str:
            return point.at(layer, role)

        normed = self._norm_of_residual(residual, at("attn_norm"))
        branch = self._attention(layer, normed)
        if self.arch.post_norms:
            branch = self._norm(branch, at("attn_post_norm"))
        self.build.add(residual, branch, at("attn_residual"))
        if not self.arch.shared_block_norm:
            source = residual if self.arch.parallel_residual else at("attn_residual")
            normed = self._norm_of_residual(source, at("mlp_norm"))
        branch = self._mlp(layer, normed)
        if self.arch.post_norms:
            branch = self._norm(branch, at("mlp_post_norm"))
        self.build.add(at("attn_residual"), branch, at("mlp_residual"))
        return at("mlp_residual")

    def head(self, residual: str) -> str:
        normed = self._norm_of_residual(residual, point.FINAL_NORM)
        self._linear(normed, point.LOGITS, point.LM_HEAD)
        if self.arch.final_softcap is None:
            return point.LOGITS
        self.build.table(point.LOGITS, point.CAPPED_LOGITS, _softcap(self.arch.final_softcap))
        return point.CAPPED_LOGITS

    def cache(self, layer: int) -> KVLayer:
        prefix, arch = self.quantized.prefix, self.arch
        key, value = point.key_point(arch, layer), point.at(layer, "v")
        empty = self.model.tensors["embed.weight"].new_zeros((arch.num_kv_heads, 0, arch.head_dim))
        keys = self.build.prefix(f"layers.{layer}.prefix_keys", prefix.keys[layer] if prefix else empty, key)
        values = self.build.prefix(f"layers.{layer}.prefix_values", prefix.values[layer] if prefix else empty, value)
        return KVLayer(arch.num_kv_heads, arch.head_dim, keys, values)

    def _norm_of_residual(self, source: str, name: str) -> str:
        return self._norm(source, name, self.build.residual_exponent(self.model.residual_scale))

    def _norm(self, source: str, name: str, exponent: str = "") -> str:
        gain, bias = self.model.tensors[f"{name}.weight"], self.model.bias(name)
        subtract_mean = self.arch.norm == "layer"
        self.build.norm(
            source, name, gain, bias, eps=self.arch.norm_eps, subtract_mean=subtract_mean, exponent=exponent
        )
        return name

    def _linear(self, source: str, output: str, name: str) -> str:
        weights = self.quantized.weights
        tied = name == point.LM_HEAD and weights[name] is weights[point.EMBED]
        self.build.linear(source, output, name, weights[name], self.model.bias(name), shared_with_embedding=tied)
        return output

    def _attention(self, layer: int, normed: str) -> str:
        arch = self.arch

        def at(role: str) -> str:
            return point.at(layer, role)

        for role in "qkv":
            self._linear(normed, at(role), at(role))
        query, key = self._position(layer, "q"), self._position(layer, "k")
        window = arch.layers[layer].window or 0
        heads = {"layer": layer, "num_heads": arch.num_heads, "head_dim": arch.head_dim}
        scores, probs, context = at("scores"), at("probs"), at("context")
        self.build.attention(
            "attention_scores", query, key, scores, arch.attention_scale, arch.num_heads, window=window, **heads
        )
        if arch.attention_softcap:
            self.build.table(scores, at("capped"), _softcap(arch.attention_softcap))
            scores = at("capped")
        self.build.softmax(scores, probs, arch.num_heads, window)
        self.build.attention("attention_context", probs, at("v"), context, 1.0, arch.num_heads * arch.head_dim, **heads)
        return self._linear(context, at("o"), at("o"))

    def _position(self, layer: int, role: str) -> str:
        """Head norm and RoPE of q or k, where the family has them."""
        name = point.at(layer, role)
        if self.arch.qk_norm:
            normed = point.at(layer, f"{role}_norm")
            gain = self.model.tensors[f"{normed}.weight"]
            exponent = self.build.exponent(normed, self.model.tensors.get(f"{normed}.{point.INPUT_SCALE}"))
            self.build.norm(name, normed, gain, None, eps=self.arch.norm_eps, subtract_mean=False, exponent=exponent)
            name = normed
        rope = self.arch.layers[layer].rope
        if rope is None:
            return name
        turned = point.at(layer, f"{role}_rope")
        self.build.rope(name, turned, rope, self.arch.head_dim, self.context)
        return turned

    def _mlp(self, layer: int, normed: str) -> str:
        def at(role: str) -> str:
            return point.at(layer, role)

        activate = ACTIVATION_FUNCTIONS[self.arch.activation]
        if not self.arch.gated_mlp:
            self._linear(normed, at("up"), at("up"))
            self.build.table(at("up"), at("act"), activate)
            return self._linear(at("act"), at("down"), at("down"))
        self._linear(normed, at("gate"), at("gate"))
        self.build.table(at("gate"), at("act"), activate)
        self._linear(normed, at("up"), at("up"))
        self.build.multiply(at("act"), at("up"), at("product"))
        return self._linear(at("product"), at("down"), at("down"))


def _softcap(cap: float) -> RealFunction:
    return lambda real: cap * np.tanh(real / cap)


def _gelu(real: np.ndarray) -> np.ndarray:
    return real * 0.5 * (1 + np.vectorize(math.erf)(real / math.sqrt(2)))


def _gelu_tanh(real: np.ndarray) -> np.ndarray:
    return real * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (real + 0.044715 * real**3)))


def _silu(real: np.ndarray) -> np.ndarray:
    return real * 0.5 * (1 + np.tanh(real / 2))  # x·sigmoid(x) without overflow


ACTIVATION_FUNCTIONS: dict[str, RealFunction] = {
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": lambda real: np.maximum(real, 0.0),
}
