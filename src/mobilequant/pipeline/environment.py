"""Where a number was made: versions and machine, stored beside every result."""

from __future__ import annotations

import os
import platform
from importlib import metadata

_PACKAGES = ("mobilequant", "torch", "numpy", "transformers", "tokenizers", "safetensors", "gguf")


def environment() -> dict[str, str]:
    """Package versions, Python, system, processor and its number of cores; nothing that names a user or a folder."""
    found = {name: version for name in _PACKAGES if (version := _version(name))}
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        **found,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
