"""What is timed: one row is a model in a system's format; one sample of it a process with threads and a context."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Scenario:
    """``prompt`` tokens are read at once behind an empty context (0: that is not timed); then, behind ``context``
    tokens, ``decode`` tokens are made one by one."""

    name: str
    prompt: int
    context: int
    decode: int = 128


SCENARIOS = {each.name: each for each in (Scenario("512", 512, 512), Scenario("4096", 0, 4096))}


@dataclass(frozen=True)
class Variant:
    """A format of a system, with the bits that it stores per weight, scales included: in blocks and in the head."""

    system: str
    name: str
    linear_bits: float
    head_bits: float

    @property
    def title(self) -> str:
        return f"{self.system} {self.name}"


@dataclass(frozen=True)
class Case:
    """What one sample measures."""

    shape: str
    system: str
    variant: str
    threads: int
    scenario: str

    def key(self) -> dict[str, Any]:
        return asdict(self)
