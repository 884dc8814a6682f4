"""The few real numbers beside an integer package that fake-quant simulation needs; the engine never reads them.

simulation.safetensors
  scale.<matrix>         (O,) real scale of every output channel; the codes are those of the integer graph
  real.<tensor>          norm gains and biases, after all transforms
  prefix.{keys,values}.<layer>   the constant cache entries before rounding, (G, P, D)
  header["simulation"]   scheme, 16-bit points, activation parameters, prefix tokens, whether the head is tied
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mobilequant.arch import point
from mobilequant.errors import PackageError
from mobilequant.integer.graph import Constant, IntegerGraph
from mobilequant.models.model import KVPrefix, Model
from mobilequant.models.quantized import QuantizedModel
from mobilequant.numerics.qtype import BY_NAME
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.pipeline.result_file import activations_from_json, activations_to_json
from mobilequant.pipeline.scheme import parse_scheme

SIMULATION, _HEADER = "simulation.safetensors", "simulation"


def save_simulation(quantized: QuantizedModel, folder: Path) -> None:
    """Write ``simulation.safetensors`` into a package folder."""
    header = {
        "scheme": quantized.scheme.name,
        "sixteen_bit": sorted(quantized.scheme.sixteen_bit),
        "activations": activations_to_json(quantized.activations),
        "prefix_tokens": list(quantized.prefix.tokens) if quantized.prefix else [],
        "tied_head": quantized.model.arch.tied_head,
    }
    # The format refuses views of shared memory, hence the copies; all of these are small.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in _real_numbers(quantized)}
    save_file(tensors, folder / SIMULATION, metadata={_HEADER: json.dumps(header)})


def load_simulation(folder: Path, graph: IntegerGraph, source: Model) -> QuantizedModel:
    """The quantized model of a package. ``source`` is the float model that it was made from.

    Its ``model`` has the transformed gains and biases; the weight matrices there are still those of ``source``, so
    only ``simulated()`` may be run.

    Raises:
        PackageError: the file is missing, damaged, or does not belong to the graph.
    """
    try:
        with safe_open(folder / SIMULATION, "pt") as file:
            header = json.loads(file.metadata()[_HEADER])
            device = source.tensors["embed.weight"].device
            tensors = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return _rebuild(header, tensors, graph, source)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise PackageError(
            f"{folder / SIMULATION} cannot be read: {error}", "Copy the package again, or quantize again."
        ) from error


def _real_numbers(quantized: QuantizedModel) -> Iterator[tuple[str, Tensor]]:
    for name, weight in quantized.weights.items():
        yield f"scale.{name}", weight.scale
    matrices = {f"{name}.weight" for name in quantized.weights}
    for name, tensor in quantized.model.tensors.items():
        if name not in matrices:
            yield f"real.{name}", tensor
    if quantized.prefix:
        for layer in range(quantized.model.arch.num_layers):
            yield f"prefix.keys.{layer}", quantized.prefix.keys[layer]
            yield f"prefix.values.{layer}", quantized.prefix.values[layer]


def _rebuild(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], graph: IntegerGraph, source: Model
) -> QuantizedModel:
    real = _section(tensors, "real.")
    arch = replace(source.arch, tied_head=header["tied_head"])
    weights = {name: _weight(name, scale, graph) for name, scale in _section(tensors, "scale.").items()}
    if header["tied_head"]:
        weights[point.LM_HEAD] = weights[point.EMBED]
    return QuantizedModel(
        replace(source, arch=arch, tensors={**source.tensors, **real}),
        parse_scheme(header["scheme"]).with_sixteen_bit(frozenset(header["sixteen_bit"])),
        weights,
        activations_from_json(header["activations"]),
        _prefix(tuple(header["prefix_tokens"]), tensors, arch.num_layers),
    )


def _section(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _weight(name: str, scale: Tensor, graph: IntegerGraph) -> QuantizedWeight:
    codes = _codes(name, graph)
    group = graph.constants.get(f"{name}.group_multiplier")
    return QuantizedWeight(
        torch.from_numpy(codes.array).to(scale.device),
        scale,
        BY_NAME[codes.dtype],
        None if group is None else torch.from_numpy(group.array).to(scale.device),
    )


def _codes(name: str, graph: IntegerGraph) -> Constant:
    """A tied head has no codes of its own."""
    own = graph.constants.get(f"{name}.codes")
    return graph.constants[f"{point.EMBED}.codes"] if own is None and name == point.LM_HEAD else _present(own, name)


def _present(constant: Constant | None, name: str) -> Constant:
    if constant is None:
        raise KeyError(f"the integer graph has no codes of {name}")
    return constant


def _prefix(tokens: tuple[int, ...], tensors: Mapping[str, Tensor], num_layers: int) -> KVPrefix | None:
    if not tokens:
        return None
    keys = tuple(tensors[f"prefix.keys.{layer}"] for layer in range(num_layers))
    values = tuple(tensors[f"prefix.values.{layer}"] for layer in range(num_layers))
    return KVPrefix(tokens, keys, values)
