"""Who computes the integers of a package: the engine, with all or certain kernels, or the reference interpreter.

Written as ``engine``, ``engine:avx2`` or ``reference``. All give the same integers; on a GPU only the reference runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mobilequant.engine.engine import Engine
from mobilequant.engine.generation import RunningModel
from mobilequant.errors import UsageError, did_you_mean

ENGINE, REFERENCE = "engine", "reference"
CPU = "cpu"


@dataclass(frozen=True)
class ExecutorChoice:
    """``name`` is "engine" or "reference"; ``kernels`` None stands for the fastest that this machine can run."""

    name: str
    kernels: str | None = None
    device: str = CPU

    def load(self, folder: str | Path, *, threads: int | None = None, traced: bool = False) -> RunningModel:
        """Open a package; ``traced`` for sessions that are asked for all tensors.

        Raises:
            PackageError: the package is missing or damaged.
            UsageError: threads, kernels or device cannot be had, or torch is not installed.
        """
        if self.name == ENGINE:
            return Engine.load(folder, threads=threads, kernels=self.kernels, traced=traced)
        try:
            from mobilequant.jobs.reference import Reference
        except ModuleNotFoundError as error:
            raise UsageError(
                f"the reference interpreter needs {error.name}, which is not installed",
                "Install the extra `quantize`, or use the engine.",
            ) from error
        return Reference.load(Path(folder), self.device)


def choose_executor(name: str | None = None, *, kernels: str | None = None, device: str = CPU) -> ExecutorChoice:
    """The executor of that name; without one, the engine on a CPU and the reference elsewhere.

    Raises:
        UsageError: an unknown name, or one that does not go together with kernels or device.
    """
    chosen, _, own = (name or (ENGINE if device == CPU else REFERENCE)).partition(":")
    if chosen not in (ENGINE, REFERENCE):
        raise UsageError(
            f"there is no executor {chosen!r}",
            f"{did_you_mean(chosen, (ENGINE, REFERENCE))}Use {ENGINE}, {ENGINE}:KERNELS or {REFERENCE}.",
        )
    kernels = own or kernels
    if chosen == ENGINE and device != CPU:
        raise UsageError(f"the engine does not run on {device!r}", "Use --executor reference there, or --device cpu.")
    if chosen == REFERENCE and kernels is not None:
        raise UsageError("the reference interpreter has no kernels", "Leave --kernels out, or use --executor engine.")
    return ExecutorChoice(chosen, kernels, device)
