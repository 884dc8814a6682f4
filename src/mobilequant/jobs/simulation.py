"""The few real numbers beside an integer package that fake-quant simulation needs; the engine never reads them.

simulation.safetensors
  scale.<matrix>         (O,) real scale of every output channel; the codes are those of the integer graph
  real.<tensor>          norm gains and biases after all transforms, and the scales that transforms add
  prefix.{keys,values}.<layer>   the constant cache entries before rounding, (G, P, D)
  header["simulation"]   scheme, its 16-bit points beyond the fixed roles, and the 8-bit points of these roles

Everything else (codes, activation parameters, prefix tokens, whether the head is tied and the norms subtract a mean) is
what the integer graph says.
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
from mobilequant.arch.architecture import Architecture
from mobilequant.errors import PackageError
from mobilequant.integer.graph import IntegerGraph
from mobilequant.models.model import KVPrefix, Model
from mobilequant.models.quantized import QuantizedModel
from mobilequant.numerics.qtype import BY_NAME
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.pipeline.scheme import Scheme, parse_scheme

SIMULATION, _HEADER = "simulation.safetensors", "simulation"


def save_simulation(quantized: QuantizedModel, folder: Path) -> None:
    """Write ``simulation.safetensors`` into a package folder."""
    header = {
        "scheme": quantized.scheme.name,
        "sixteen_bit": sorted(quantized.scheme.sixteen_bit),
        "eight_bit": sorted(quantized.scheme.eight_bit),
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
            tensors = {name: file.get_tensor(name).to(source.device) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return _rebuild(header, tensors, graph, source)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise PackageError(
            f"{folder / SIMULATION} cannot be read: {error}", "Copy the package again, or quantize again."
        ) from error


def _real_numbers(quantized: QuantizedModel) -> Iterator[tuple[str, Tensor]]:
    for name, weight in quantized.weights.items():
        yield f"scale.{name}", weight.scale
    matrices = {f"{name}.weight" for name in quantized.weights}
    for name, tensor in quantized.model.tensors.items():
        if name not in matrices and point.role_of(name) not in (point.PREFIX_KEYS, point.PREFIX_VALUES):
            yield f"real.{name}", tensor
    if quantized.prefix:
        for layer in range(quantized.model.arch.num_layers):
            yield f"prefix.keys.{layer}", quantized.prefix.keys[layer]
            yield f"prefix.values.{layer}", quantized.prefix.values[layer]


def _rebuild(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], graph: IntegerGraph, source: Model
) -> QuantizedModel:
    real = _section(tensors, "real.")
    _check_shapes(real, source)
    source = _as_lowered(source, graph)
    arch = source.arch
    matrices = [name for name in (*source.linears(), *source.tables()) if name != point.LM_HEAD or not arch.tied_head]
    weights = {name: _weight(tensors[f"scale.{name}"], name, graph, source.weight(name)) for name in matrices}
    if arch.tied_head:
        weights[point.LM_HEAD] = weights[point.EMBED]
    return QuantizedModel(
        replace(source, tensors={**source.tensors, **real}),
        _scheme(header),
        weights,
        {name: tensor.qparams() for name, tensor in graph.tensors.items()},
        _prefix(graph, tensors, arch),
    )


def _scheme(header: Mapping[str, Any]) -> Scheme:
    """The scheme of a header; what a package from before 8-bit points were known does not name is none."""
    wide, narrow = frozenset(header["sixteen_bit"]), frozenset(header.get("eight_bit", ()))
    return replace(parse_scheme(header["scheme"]), sixteen_bit=wide, eight_bit=narrow)


def _as_lowered(source: Model, graph: IntegerGraph) -> Model:
    """The float model with a head and norms of the kind that the graph has."""
    model = replace(source, arch=replace(source.arch, tied_head=f"{point.LM_HEAD}.codes" not in graph.constants))
    final = next(op for op in graph.ops if op.output == point.FINAL_NORM)
    return model if final.attributes["subtract_mean"] else model.with_rms_norms()


def _check_shapes(real: Mapping[str, Tensor], source: Model) -> None:
    """Gains keep their shape; of what transforms add, a bias has one entry a row, and a scale one a channel."""
    for name, tensor in real.items():
        module, _, kind = name.rpartition(".")
        per_channel = name in (point.RESIDUAL_SCALE, point.COLUMN_SCALE)
        entries = source.arch.hidden_size if per_channel else source.weight(module).shape[0]
        if tuple(tensor.shape) != (entries,) or not (per_channel or kind in ("weight", "bias", point.INPUT_SCALE)):
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)} instead of {(entries,)}")


def _section(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _weight(scale: Tensor, name: str, graph: IntegerGraph, real: Tensor) -> QuantizedWeight:
    codes, group = graph.constants[f"{name}.codes"], graph.constants.get(f"{name}.group_multiplier")
    if codes.array.shape != real.shape or scale.shape != real.shape[:1]:
        raise ValueError(f"codes and scales of {name} do not fit a matrix of {tuple(real.shape)}")
    return QuantizedWeight(
        torch.from_numpy(codes.array).to(scale.device),
        scale,
        BY_NAME[codes.dtype],
        None if group is None else torch.from_numpy(group.array).to(scale.device),
    )


def _prefix(graph: IntegerGraph, tensors: Mapping[str, Tensor], arch: Architecture) -> KVPrefix | None:
    if not graph.prefix_tokens:
        return None
    keys, values = (
        tuple(tensors[f"prefix.{kind}.{layer}"] for layer in range(arch.num_layers)) for kind in ("keys", "values")
    )
    expected = (arch.num_kv_heads, graph.num_prefix, arch.head_dim)
    if any(tensor.shape != expected for tensor in (*keys, *values)):
        raise ValueError(f"the prefix must have the shape {expected}")
    return KVPrefix(graph.prefix_tokens, keys, values)
