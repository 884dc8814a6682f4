"""Where a number or a package was made: versions, processor, threads, commit; nothing that names a user or host."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_PACKAGES = ("mobilequant", "torch", "numpy", "transformers", "tokenizers", "safetensors", "gguf")


class Environment(BaseModel):
    """What can change a number or a time without any change of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    python: str
    packages: dict[str, str]  # name → version, of those installed
    platform: str
    cpu: str
    threads: int  # torch's, during the measurement
    commit: str | None = None  # of MobileQuant's source tree, with "-dirty" when it had changes


def environment() -> Environment:
    """This process, now."""
    import torch

    return Environment(
        python=platform.python_version(),
        packages={name: found for name in _PACKAGES if (found := _version(name))},
        platform=f"{platform.system()} {platform.machine()}",
        cpu=_cpu_name(),
        threads=torch.get_num_threads(),
        commit=_commit(Path(__file__).resolve().parents[3]),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _commit(root: Path) -> str | None:
    """The commit of ``root`` if it is a source tree of its own, not a folder in somebody else's repository."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
