"""A package for longer contexts: its tables of rotary embedding go on, and nothing else changes.

    PYTHONPATH=bench python -m engine.lengthen PACKAGE MODEL CONTEXT

``mobilequant quantize`` makes packages for 2,048 positions. For times at 4,096 the tables are computed again with the
model's own frequencies; what stood there before must come out the same.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from mobilequant.integer.graph import Constant, IntegerGraph
from mobilequant.integer.ops.rope import rope_tables
from mobilequant.integer.package import load_graph, read_manifest, save_graph, write_manifest
from mobilequant.models.sources.resolver import resolve


def lengthen(package: Path, model: str, context: int) -> None:
    """Rewrite a package in place for ``context`` positions."""
    manifest, graph = read_manifest(package), load_graph(package)
    if graph.context < context:
        save_graph(_lengthened(graph, model, context), package)
        kept = {name: value for name, value in manifest.items() if name not in ("format", "version", "files")}
        (package / "package.json").unlink()
        write_manifest(package, kept)


def _lengthened(graph: IntegerGraph, model: str, context: int) -> IntegerGraph:
    layers, constants = resolve(model).arch.layers, dict(graph.constants)
    for op in graph.ops:
        if op.kind != "rope":
            continue
        rope = layers[int(op.output.split(".")[1])].rope
        assert rope is not None, op.output
        for name, table in zip(("cos", "sin"), rope_tables(rope, context), strict=True):
            before = graph.constants[op.constants[name]].array
            if not np.array_equal(table[: len(before)], before):
                raise ValueError(f"the tables of {op.output} are not those of {model}")
            constants[op.constants[name]] = Constant("int16", table)
    return replace(graph, constants=constants, context=context)


if __name__ == "__main__":
    lengthen(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
