"""The reference interpreter behind the same face as the engine: slow, obvious, and the truth for both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mobilequant.engine.vocabulary import Vocabulary
from mobilequant.integer.interpreter import CodesTap, Interpreter
from mobilequant.jobs.device import require_device
from mobilequant.jobs.package import Package, open_package


@dataclass(frozen=True)
class Reference:
    """An opened package and its interpreter."""

    package: Package
    interpreter: Interpreter

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Reference:
        """Open and check a package.

        Raises:
            PackageError: it is missing or damaged.
            UsageError: the device cannot be used.
        """
        require_device(device)
        package = open_package(folder)
        return cls(package, Interpreter(package.graph, device))

    @property
    def logits_scale(self) -> float:
        """Real logits are the integer ones times this."""
        return self.interpreter.logits_scale

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Between text and token ids. Raises PackageError when the package has no tokenizer, or it is damaged."""
        return Vocabulary.load(
            self.package.folder,
            vocab_size=self.package.graph.vocab_size,
            leading_token=self.package.about.leading_token,
            prefix_tokens=self.package.graph.prefix_tokens,
        )

    def session(self, capacity: int | None = None) -> ReferenceSession:
        """An empty sequence; it grows as it is read, so that ``capacity`` reserves nothing."""
        return ReferenceSession(self.interpreter)


class ReferenceSession:
    """A sequence that the interpreter reads."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._state = interpreter.state()

    @property
    def room(self) -> int:
        """How many more tokens can be read."""
        return self._interpreter.graph.context - self._state.position

    def run(self, tokens: Sequence[int], *, only_last: bool = False) -> NDArray[np.int16]:
        """Read tokens (T,) behind those before; logits (T, V), or (1, V) of the last one.

        Raises:
            UsageError: no token, a token id outside the vocabulary, or no room left.
        """
        return self._run(tokens, only_last=only_last)

    def trace(self, tokens: Sequence[int]) -> list[tuple[str, NDArray[np.integer]]]:
        """Read tokens (T,) and give back the codes of every tensor of the graph, in running order.

        Raises:
            UsageError: as ``run``.
        """
        found: list[tuple[str, NDArray[np.integer]]] = []
        self._run(tokens, tap=lambda tensor, codes: found.append((tensor.name, codes.cpu().numpy())))
        return found

    def _run(self, tokens: Sequence[int], *, only_last: bool = False, tap: CodesTap | None = None) -> NDArray[np.int16]:
        logits = self._interpreter.run(torch.tensor(tokens, dtype=torch.int64), self._state, tap)
        return (logits[-1:] if only_last else logits).cpu().numpy()
