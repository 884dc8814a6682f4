"""What is inside a package: ops, formats, bits and sizes, and the proof that no float is left."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mobilequant.jobs.measure import bits_per_weight, bytes_by_role
from mobilequant.jobs.package import open_package


def inspect(package: str | Path) -> dict[str, Any]:
    """Facts about a package.

    Returns:
        ``float_ops`` (their number; 0 in a valid graph), ``sixteen_bit`` (all 16-bit activations),
        ``sixteen_bit_inputs`` (those that the recipe added), ``eight_bit_islands`` (those that it removed),
        ``bits_per_weight``, ``size_bytes`` by role, ``ops`` by kind, and where the package comes from.

    Raises:
        PackageError: the package is missing or damaged.
    """
    opened = open_package(Path(package))
    graph = opened.graph
    return {
        "model": opened.about.model.name,
        "scheme": opened.about.scheme,
        "recipe_sha256": opened.about.recipe_sha256,
        "float_ops": len(graph.float_ops()),
        "bits_per_weight": bits_per_weight(graph),
        "sixteen_bit": graph.sixteen_bit(),
        "sixteen_bit_inputs": opened.about.sixteen_bit,
        "eight_bit_islands": opened.about.eight_bit,
        "activations": len(graph.tensors),
        "prefix_tokens": list(graph.prefix_tokens),
        "context": graph.context,
        "ops": dict(Counter(op.kind for op in graph.ops).most_common()),
        "size_bytes": bytes_by_role(graph),
    }
