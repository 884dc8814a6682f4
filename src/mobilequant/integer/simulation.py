"""The real-number side of a package: just enough to simulate the integer model in floating point again.

The codes are those of the graph; ``simulation.safetensors`` adds the real scales, norm gains, biases and prefix.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.errors import PackageError
from mobilequant.integer.graph import IntegerGraph
from mobilequant.models.model import KVPrefix, Model
from mobilequant.models.quantized import QuantizedModel
from mobilequant.numerics.qtype import BY_NAME
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.pipeline.scheme import parse_scheme

SIMULATION = "simulation.safetensors"
_REMEDY = "Make the package again with `mobilequant quantize`."


def save_simulation(quantized: QuantizedModel, folder: Path) -> None:
    """Write the real scales, gains, biases and prefix of a quantized model."""
    tensors = {f"{name}.scale": weight.scale for name, weight in quantized.weights.items()}
    codes = {f"{name}.weight" for name in quantized.weights}
    tensors |= {name: tensor for name, tensor in quantized.model.tensors.items() if name not in codes}
    if quantized.prefix:
        tensors |= {f"prefix.keys.{i}": keys for i, keys in enumerate(quantized.prefix.keys)}
        tensors |= {f"prefix.values.{i}": values for i, values in enumerate(quantized.prefix.values)}
    plain = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    arch = TypeAdapter(Architecture).dump_json(quantized.model.arch).decode()
    save_file(plain, folder / SIMULATION, metadata={"architecture": arch, "scheme": quantized.scheme.name})


def load_simulation(folder: Path, graph: IntegerGraph) -> QuantizedModel:
    """The quantized model of a package; its ``model`` computes with the dequantized weights.

    Raises:
        PackageError: the simulation file is missing, corrupted, or does not belong to the graph.
    """
    try:
        with safe_open(folder / SIMULATION, "pt") as file:
            metadata: dict[str, Any] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        arch = TypeAdapter(Architecture).validate_json(metadata["architecture"])
        return _assemble(arch, metadata["scheme"], tensors, graph)
    except (OSError, SafetensorError, ValidationError, KeyError) as error:
        raise PackageError(f"{folder / SIMULATION} cannot be used: {error}", _REMEDY) from error


def _assemble(arch: Architecture, scheme: str, tensors: dict[str, torch.Tensor], graph: IntegerGraph) -> QuantizedModel:
    weights = _weights(tensors, graph)
    if arch.tied_head:
        weights[point.LM_HEAD] = weights[point.EMBED]
    model_tensors = {n: t for n, t in tensors.items() if not n.endswith(".scale") and not n.startswith("prefix.")}
    model_tensors |= {f"{name}.weight": weight.dequantize() for name, weight in weights.items()}
    if arch.tied_head:
        model_tensors["lm_head.weight"] = model_tensors["embed.weight"]
    activations = {name: spec.qparams() for name, spec in graph.tensors.items()}
    wide = frozenset(graph.sixteen_bit())
    prefix = None
    if graph.num_prefix:
        layers = range(arch.num_layers)
        keys, values = (tuple(tensors[f"prefix.{part}.{i}"] for i in layers) for part in ("keys", "values"))
        prefix = KVPrefix(graph.prefix_tokens, keys, values)
    parsed = dataclasses.replace(parse_scheme(scheme), sixteen_bit=wide)
    return QuantizedModel(Model(arch, model_tensors), parsed, weights, activations, prefix)


def _weights(tensors: dict[str, torch.Tensor], graph: IntegerGraph) -> dict[str, QuantizedWeight]:
    """Codes from the graph, scales from the simulation file, by the weight's name."""
    found = {}
    for name in (key.removesuffix(".scale") for key in tensors if key.endswith(".scale")):
        if f"{name}.codes" not in graph.constants:
            continue  # a tied head: the embedding's codes
        codes = graph.constants[f"{name}.codes"]
        groups = graph.constants.get(f"{name}.group_multiplier")
        found[name] = QuantizedWeight(
            torch.from_numpy(codes.array),
            tensors[f"{name}.scale"],
            BY_NAME[codes.dtype],
            torch.from_numpy(groups.array) if groups else None,
        )
    return found
