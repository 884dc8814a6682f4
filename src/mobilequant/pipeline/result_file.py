"""One method's result for one unit as bytes: a safetensors file whose header carries the rest as JSON.

    header["result"] = {"tensors": {name: key}, "activations": {name: [scale, zero_point, format, qmin, qmax]},
                        "weights": {name: index}, "matrices": [{codes, scale, group_multiplier, qtype}],
                        "measures": {name: number}, "norm": "rms" or null,
                        "rewrites": [[kind, where, key of the factor or null]]}

A tensor or matrix that stands under two names (a tied head) is stored once, and is one object again after loading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from mobilequant.numerics.qparams import QParams
from mobilequant.numerics.qtype import BY_NAME
from mobilequant.numerics.weight import QuantizedWeight
from mobilequant.pipeline.method import Result, Rewrite, RewriteKind

if TYPE_CHECKING:
    from pathlib import Path

    import torch

_HEADER = "result"


def to_bytes(result: Result) -> bytes:
    """The file content of a result; equal results give equal bytes."""
    from safetensors.torch import save

    store = _TensorStore()
    matrices: dict[int, int] = {}
    described: list[dict[str, Any]] = []
    for weight in result.weights.values():
        if id(weight) not in matrices:
            matrices[id(weight)] = len(described)
            described.append(_describe(weight, store))
    header = {
        "tensors": {name: store.add(tensor) for name, tensor in result.tensors.items()},
        "activations": activations_to_json(result.activations),
        "weights": {name: matrices[id(weight)] for name, weight in result.weights.items()},
        "matrices": described,
        "measures": result.measures,
        "norm": result.norm,
        "rewrites": [[each.kind, each.where, store.add_optional(each.factor)] for each in result.rewrites],
    }
    return save(store.tensors, metadata={_HEADER: json.dumps(header)})


def read(path: Path) -> Result:
    """The result that ``to_bytes`` wrote.

    Raises:
        ValueError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()[_HEADER])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        matrices = [_matrix(entry, tensors) for entry in header["matrices"]]
        return Result(
            tensors={name: tensors[key] for name, key in header["tensors"].items()},
            activations=activations_from_json(header["activations"]),
            weights={name: matrices[index] for name, index in header["weights"].items()},
            measures=header["measures"],
            norm=header["norm"],
            rewrites=tuple(_rewrite(entry, tensors) for entry in header.get("rewrites", ())),
        )
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError, OSError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


def activations_to_json(activations: Mapping[str, QParams]) -> dict[str, list[Any]]:
    """Activation parameters as JSON, exact; qmin and qmax are told because a format may have been narrowed."""
    return {name: [q.scale, q.zero_point, q.qtype.name, q.qtype.qmin, q.qtype.qmax] for name, q in activations.items()}


def activations_from_json(entries: Mapping[str, Any]) -> dict[str, QParams]:
    """Inverse of ``activations_to_json``."""
    return {
        name: QParams(scale, zero_point, replace(BY_NAME[qtype], qmin=qmin, qmax=qmax))
        for name, (scale, zero_point, qtype, qmin, qmax) in entries.items()
    }


class _TensorStore:
    """Tensors under short keys, each object once."""

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._keys: dict[int, str] = {}

    def add(self, tensor: torch.Tensor) -> str:
        key = self._keys.setdefault(id(tensor), f"t{len(self._keys):05d}")
        if key not in self.tensors:
            self.tensors[key] = _own_storage(tensor.detach().cpu())
        return key

    def add_optional(self, tensor: torch.Tensor | None) -> str | None:
        return None if tensor is None else self.add(tensor)


def _own_storage(tensor: torch.Tensor) -> torch.Tensor:
    """The format refuses tensors that are views of one memory block."""
    tensor = tensor.contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _describe(weight: QuantizedWeight, store: _TensorStore) -> dict[str, Any]:
    return {
        "codes": store.add(weight.codes),
        "scale": store.add(weight.scale),
        "group_multiplier": store.add_optional(weight.group_multiplier),
        "qtype": weight.qtype.name,
    }


def _matrix(entry: dict[str, Any], tensors: dict[str, torch.Tensor]) -> QuantizedWeight:
    group = entry["group_multiplier"]
    return QuantizedWeight(
        tensors[entry["codes"]],
        tensors[entry["scale"]],
        BY_NAME[entry["qtype"]],
        None if group is None else tensors[group],
    )


def _rewrite(entry: list[Any], tensors: dict[str, torch.Tensor]) -> Rewrite:
    kind, where, key = entry
    if kind not in get_args(RewriteKind):
        raise ValueError(f"it names the rewrite {kind!r}, which is not known")
    return Rewrite(kind, where, None if key is None else tensors[key])
