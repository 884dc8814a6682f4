"""What a method gets that runs the model itself, to train it or to try formats: more than statistics of single points.

Such a method states ``inputs = "session"`` and finds the session in ``stats[SESSION]``. It stands alone in its pass.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from torch import Tensor

from mobilequant.arch.architecture import Architecture
from mobilequant.models.quantized import QuantizedModel
from mobilequant.pipeline.checkpoint import Checkpoint
from mobilequant.pipeline.method import FrozenConfig, Inputs, Need, Result, UnitKind
from mobilequant.pipeline.progress import Track
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.trainer import Memory

SESSION = Need("session", "model")
PAUSE_S = 60.0  # between two writings of the state of a training
Settings = TypeVar("Settings", bound=FrozenConfig)


@dataclass(frozen=True)
class Session:
    """The quantized model as it is, calibration windows (N, T) and those for training (M, S), progress, and a memory
    that survives a kill."""

    state: QuantizedModel
    windows: Tensor
    training: Tensor
    track: Track
    checkpoint: Checkpoint
    step: str

    def keep(self, name: str, found: Result) -> None:
        """Keep part of the work under a name; after return it survives a kill."""
        self.checkpoint.save(self.step, name, found)

    def recall(self, name: str) -> Result | None:
        """What was kept, on the device of the run; None when there is nothing."""
        found = self.checkpoint.load(self.step, name)
        return None if found is None else found.to(self.windows.device)

    def memory(self, name: str) -> Memory:
        """One place of that memory, for the state of a training."""
        return _Place(self, name)


class SessionMethod(Generic[Settings]):
    """What the contract of ``pipeline.method.Method`` asks of every method with a session, written once."""

    unit: ClassVar[UnitKind] = "model"
    inputs: ClassVar[Inputs] = "session"
    changes: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: Settings) -> None:
        self.config = config

    def needs(self, arch: Architecture, scheme: Scheme) -> Sequence[Need]:
        """Nothing but the session."""
        return (SESSION,)


class _Place:
    """Written at most once a minute: with learned rounding a state takes as long to write as dozens of steps."""

    def __init__(self, session: Session, name: str) -> None:
        self._session, self._name = session, name
        self._written = time.monotonic()

    def keep(self, state: Result) -> bool:
        now = time.monotonic()
        if now - self._written < PAUSE_S:
            return False
        self._session.keep(self._name, state)
        self._written = time.monotonic()
        return True

    def recall(self) -> Result | None:
        return self._session.recall(self._name)
