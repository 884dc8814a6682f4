"""``mobilequant inspect``."""

from __future__ import annotations

from typing import Any

from mobilequant.cli import output
from mobilequant.cli.option import Format, FormatOption, PackageArgument
from mobilequant.pipeline.quantity import size


def inspect(package: PackageArgument, output_format: FormatOption = Format.TABLE) -> None:
    """Show what is inside a package: float operations (none), 16-bit tensors, bits per weight, sizes.

    Example: mobilequant inspect smollm2-w8a8
    """
    from mobilequant.jobs.inspect import inspect as run

    found = run(package)
    if output_format is Format.JSON:
        output.write_json(found)
        return
    output.write_facts("Package", _facts(found))
    sizes = found["size_bytes"]
    rows = [(role, size(count), f"{100 * count / sum(sizes.values()):.1f} %") for role, count in sizes.items()]
    output.write_table("Stored size by role", ("role", "size", "share"), rows)
    output.write_table("Operations", ("kind", "count"), [(kind, str(count)) for kind, count in found["ops"].items()])


def _facts(found: dict[str, Any]) -> dict[str, str]:
    wide = found["sixteen_bit_inputs"]
    return {
        "model": found["model"],
        "scheme": found["scheme"],
        "floating-point operations": str(found["float_ops"]),
        "bits per weight": f"{found['bits_per_weight']:.3f}",
        "16-bit activations": f"{len(found['sixteen_bit'])} of {found['activations']} (names: --format json)",
        "16-bit inputs of linears": ", ".join(wide) or "none",
        "16-bit islands removed": str(len(found["eight_bit_islands"])),
        "constant prefix": f"{len(found['prefix_tokens'])} tokens {found['prefix_tokens']}",
        "context": f"{found['context']} tokens",
        "recipe": found["recipe_sha256"],
    }
