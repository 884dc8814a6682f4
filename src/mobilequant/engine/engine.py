"""A packaged model that runs: token ids or text in, integer logits or text out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mobilequant.engine import _core
from mobilequant.engine.cores import default_threads, require_threads
from mobilequant.engine.failure import translated
from mobilequant.engine.generation import generate
from mobilequant.engine.listing import MANIFEST
from mobilequant.engine.sampler import DEFAULT_TEMPERATURE, Sampling
from mobilequant.errors import PackageError, ResourceError, UsageError, did_you_mean

if TYPE_CHECKING:
    from mobilequant.engine.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

SLOWEST = "scalar"


class Engine:
    """A package, opened and checked, with its threads. Sessions of one engine may be used from several threads of
    Python, but run one after the other."""

    def __init__(self, core: _core.Engine, folder: Path, threads: int, *, traced: bool) -> None:
        self.core = core
        self.folder = folder
        self.threads = threads
        self.traced = traced
        self.lock = threading.Lock()  # the core's threads do one thing at a time

    @classmethod
    def load(
        cls, folder: str | Path, *, threads: int | None = None, kernels: str | None = None, traced: bool = False
    ) -> Engine:
        """Open a package that ``mobilequant quantize`` made, and check all that the engine reads of it.

        Args:
            threads: 1 to 256; by default ``OMP_NUM_THREADS``, else the physical cores of this process, at most 8.
            kernels: one of ``available_kernels()``, by default the first; all give the same integers.
            traced: keep every tensor for ``Session.trace``; slower, and takes more memory.

        Raises:
            PackageError: no package lies there, it is damaged, or of another version.
            UsageError: a number of threads or a name of kernels that cannot be meant.
            ResourceError: the system gives no more threads.
        """
        folder, threads = Path(folder), default_threads() if threads is None else threads
        require_threads(threads)
        _require_kernels(kernels)
        if not (folder / MANIFEST).is_file():
            raise PackageError(
                f"{folder} is not a MobileQuant package (no {MANIFEST})",
                "Make one with `mobilequant quantize MODEL --out DIR`.",
            )
        try:
            with translated(str(folder), "Use another number of threads."):
                core = _core.Engine(folder, threads, kernels or "", traced)
        except RuntimeError as error:
            raise ResourceError(f"{folder}: {error}", "Use fewer threads, or close other programs.") from error
        engine = cls(core, folder, threads, traced=traced)
        if engine.kernels == SLOWEST and kernels is None:
            logger.warning("this processor has no instructions that the engine knows: it runs its %s kernels", SLOWEST)
        return engine

    @property
    def kernels(self) -> str:
        """The kernels that run."""
        return self.core.kernels

    @property
    def logits_scale(self) -> float:
        """Real logits are the integer ones times this."""
        return self.core.logits_scale

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        return self.core.vocab_size

    @property
    def context(self) -> int:
        """Positions below this, those of the constant prefix included."""
        return self.core.context

    @property
    def prefix_tokens(self) -> list[int]:
        """The tokens that the constant prefix of the caches was made of; they are not to be read again."""
        return list(self.core.prefix_tokens)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Tokenizer, leading token and end tokens, read when they are first asked for.

        Raises:
            PackageError: the package has no tokenizer, or it is damaged.
        """
        from mobilequant.engine.vocabulary import Vocabulary  # token ids can be run without a tokenizer

        return Vocabulary.load(
            self.folder,
            vocab_size=self.vocab_size,
            leading_token=self.core.leading_token,
            prefix_tokens=self.prefix_tokens,
        )

    def session(self, capacity: int | None = None) -> Session:
        """An empty sequence with room for ``capacity`` tokens; by default, and at most, for the whole context.

        Raises:
            UsageError: no room at all.
        """
        if capacity is not None and capacity < 1:
            raise UsageError(f"a session cannot have room for {capacity} tokens", "Use a capacity of 1 or more.")
        return Session(self, min(capacity or self.context, self.context))

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 64,
        greedy: bool = False,
        temperature: float = DEFAULT_TEMPERATURE,
        top_k: int = 0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """Yield the continuation of ``prompt`` piece by piece; ends at the end-of-text token or when the context is
        full. How tokens are chosen: ``engine.sampler.Sampling``.

        Raises:
            PackageError: the package has no tokenizer, or it is damaged.
            UsageError: the prompt is empty, no Unicode, or longer than the context, or an option is out of range.
        """
        sampling = Sampling(temperature, top_k, top_p, repetition_penalty, greedy, seed)
        return generate(self, prompt, sampling, max_new_tokens)


class Session:
    """A sequence that the engine reads: its caches, and where it stands."""

    def __init__(self, engine: Engine, capacity: int) -> None:
        self._engine = engine
        self._core = _core.Session(engine.core, capacity)

    @property
    def position(self) -> int:
        """Where the next token will stand; the constant prefix comes first."""
        return self._core.position

    @property
    def room(self) -> int:
        """How many more tokens can be read."""
        return self._core.room

    def run(self, tokens: Sequence[int] | NDArray[np.integer], *, only_last: bool = False) -> NDArray[np.int16]:
        """Read tokens (T,) behind those before; logits (T, V), or (1, V) of the last one. A mistake changes nothing.

        Raises:
            UsageError: no token, a token id outside the vocabulary, or no room left.
        """
        ids = self._checked(tokens)
        with self._engine.lock, translated("the engine", "Begin a new session."):
            return self._core.run(ids, only_last)

    def rewind(self, position: int) -> None:
        """Go back to an earlier ``position``: what is read next stands there. Costs nothing.

        Raises:
            UsageError: the position was not reached yet, or belongs to the constant prefix.
        """
        with self._engine.lock, translated("the engine", "Give a position between the prefix and where it stands."):
            self._core.rewind(position)

    def trace(self, tokens: Sequence[int] | NDArray[np.integer]) -> list[tuple[str, NDArray[np.integer]]]:
        """Read tokens (T,) and give back the codes of every tensor of the graph, in running order: (T, C), scores and
        probabilities (H, T, S).

        Raises:
            UsageError: as ``run``, or the engine was loaded without ``traced``.
        """
        ids = self._checked(tokens)
        if not self._engine.traced:
            raise UsageError("this engine does not keep its tensors", "Load it with traced=True.")
        with self._engine.lock, translated("the engine", "Begin a new session."):
            return self._core.trace(self._engine.core, ids)

    def _checked(self, tokens: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int32]:
        ids, vocab_size = np.asarray(tokens), self._engine.vocab_size
        if ids.size == 0:
            raise UsageError("there is no token to run", "Give at least one token.")
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise UsageError(f"tokens are {ids.dtype} of shape {ids.shape}", "Give a list of integers.")
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= vocab_size:
            raise UsageError(
                f"token ids {low}…{high} leave the vocabulary of {vocab_size}",
                "Use the tokenizer that lies in the package.",
            )
        if ids.size > self.room:
            raise UsageError(
                f"{ids.size} tokens after position {self.position} exceed the room for {self.room} more",
                f"Shorten the text; the context holds {self._engine.context} positions.",
            )
        return np.ascontiguousarray(ids, dtype=np.int32)


def available_kernels() -> list[str]:
    """The kernels that this machine can run, fastest first."""
    return _core.kernels()


def _require_kernels(kernels: str | None) -> None:
    if kernels is not None and kernels not in available_kernels():
        known = ", ".join(available_kernels())
        raise UsageError(
            f"this machine cannot run kernels called {kernels!r}",
            f"{did_you_mean(kernels, available_kernels())}It has: {known}.",
        )
