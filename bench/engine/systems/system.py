"""What the comparison asks of every system: prepare once, say how big it is, give the commands of a sample."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.row import Scenario, Variant
from engine.shapes import Shape

Command = list[str]


class System(ABC):
    """One runtime with its formats."""

    name: str
    variants: tuple[Variant, ...]

    def variant(self, name: str) -> Variant:
        return next(each for each in self.variants if each.name == name)

    @abstractmethod
    def prepare(self, shape: Shape) -> None:
        """Install, build and convert what is not there yet."""

    @abstractmethod
    def stored_bytes(self, shape: Shape, variant: Variant) -> int:
        """Size of the files that are loaded: weights and graph, no tokenizer."""

    @abstractmethod
    def commands(self, shape: Shape, variant: Variant, threads: int, scenario: Scenario) -> list[Command]:
        """The processes of one sample, one after another; each prints JSON, which ``read`` understands."""

    def read(self, outputs: Sequence[str]) -> dict[str, float]:
        """prefill_tok_s, decode_tok_s and load_ms, as far as they were measured, from what the processes printed."""
        return {name: value for output in outputs for name, value in last_object(output).items() if name in MEASURED}

    @abstractmethod
    def nll(self, shape: Shape, variant: Variant, ids: Path, window: int) -> dict[str, Any]:
        """{"nll": sum in nats, "predictions": …} over windows in a file of int32 ids."""


MEASURED = ("prefill_tok_s", "decode_tok_s", "load_ms")


def last_object(output: str) -> dict[str, Any]:
    """The JSON object on the last line that holds one: libraries print what they like before it; or the whole output.

    Raises:
        ValueError: there is none.
    """
    for line in (*reversed(output.strip().splitlines()), output):
        if line.lstrip().startswith("{"):
            try:
                return json.loads(line)
            except json.JSONDecodeError:
                continue
    raise ValueError(f"no JSON object in what the process printed: {output[-500:]!r}")


def folder_bytes(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths)
