"""torch.compile for training: functions of tensors, each compiled once in both directions, or not at all.

A step of a small model moves memory: a fake quantizer, a norm, a mask are kernels of their own that each read and
write all of an activation. The compiler fuses what lies between two products of matrices, forward and backward.

What cannot be compiled is computed as without a compiler: the first call of a function runs both directions on copies,
and where that fails, one warning is all that comes of it. ``TORCH_COMPILE_DISABLE=1`` in the environment turns the
compiler off, ``TORCHINDUCTOR_CACHE_DIR`` says where it keeps what it has made for the next run. The functions live as
long as their ``Compiler``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

_log = logging.getLogger(__name__)
Compute = Callable[..., Tensor]
# Steps from which on compiling pays. SmolLM2-135M, 8 windows of 512, alone on one H200: the first step takes 48 s in
# place of 7 with an empty cache, all others 95.0 ms in place of 114.4; so 41 s are won back after 2,100 of them.
PAYS_FROM = 2000
_OPTIONS = (
    # A true division, as where nothing is compiled: an approximate one moves codes that lie near an edge. Torch 2.10
    # has a name of its own for it.
    "eager_numerics.division_rounding",
    "emulate_divison_rounding",
    # Sums in the same order in each run, whatever is measured to be fastest, so that a killed run resumes to the same
    # bytes.
    "deterministic",
)


class Compiler:
    """Compiles for tensors on devices of one type; without a type, nothing."""

    def __init__(self, device_type: str | None = "cuda", backend: str = "inductor") -> None:
        self._device_type, self._backend = device_type, backend
        self._functions: dict[Hashable, Compute | None] = {}

    @property
    def num_functions(self) -> int:
        """How many functions have been compiled so far."""
        return sum(each is not None for each in self._functions.values())

    def serves(self, value: Tensor) -> bool:
        """Whether functions of this tensor are compiled."""
        return value.device.type == self._device_type and not torch._dynamo.config.disable

    def function(self, kind: Hashable, make: Callable[[], Compute], given: tuple[Any, ...]) -> Compute | None:
        """What ``make`` gives, compiled for what is given; None where that fails.

        kind: whatever the function knows apart from its arguments. given: tensors, and tuples and dictionaries of them;
        of functions of one kind, the shape of the last one tells them apart.

        Raises:
            torch.OutOfMemoryError: as without a compiler.
        """
        key = (kind, given[-1].shape, torch.is_grad_enabled())
        if key not in self._functions:
            self._functions[key] = self._proved(self._compiled(make()), given)
        return self._functions[key]

    def _proved(self, function: Compute, given: tuple[Any, ...]) -> Compute | None:
        try:
            _try(function, given)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            level = logging.DEBUG if None in self._functions.values() else logging.WARNING
            reason = str(error).partition("\n")[0]
            _log.log(level, "training goes on without a compiler: %s: %s", type(error).__name__, reason)
            _log.debug("what the compiler said", exc_info=True)
            return None
        return function

    def _compiled(self, compute: Compute) -> Compute:
        # What is compiled is kept with the code of a function, a few versions at most: so each gets its own code.
        assert isinstance(compute, FunctionType)
        code, closure = compute.__code__.replace(), compute.__closure__
        own = FunctionType(code, compute.__globals__, compute.__name__, None, closure)
        options = _options(self._device_type) if self._backend == "inductor" else None
        found: Compute = torch.compile(own, fullgraph=True, dynamic=False, backend=self._backend, options=options)
        return found


def compiler_for(steps: int) -> Compiler:
    """The compiler of a training of so many steps; those that it did before it was killed count, so that it goes on in
    the way in which it began."""
    return Compiler() if steps >= PAYS_FROM else Compiler(None)


def _options(device_type: str | None) -> dict[str, Any]:
    known = torch._inductor.list_options()
    options: dict[str, Any] = {name: True for name in _OPTIONS if name in known}
    # Tests alone compile for a CPU. With vectors, its backend in torch 2.13 writes behind the end of a buffer.
    return options | ({"cpp.simdlen": 1} if device_type == "cpu" else {})


def _try(function: Compute, given: tuple[Any, ...]) -> None:
    """Compile both directions and run them once, on copies, so that neither can fail for the first time in a step."""
    leaves: list[Tensor] = []
    copies = [_copied(each, leaves) for each in given]
    with torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is):  # nothing of this is to be computed twice
        result = function(*copies)
        if result.requires_grad:
            torch.autograd.grad(result, leaves, torch.ones_like(result), allow_unused=True)


def _copied(given: Any, leaves: list[Tensor]) -> Any:
    """The same tensors apart from their history; those that gradients reach are added to ``leaves``."""
    if isinstance(given, dict):
        return {name: _copied(each, leaves) for name, each in given.items()}
    if isinstance(given, tuple):
        return tuple(_copied(each, leaves) for each in given)
    if not isinstance(given, Tensor):
        return given
    copy = given.detach().requires_grad_(given.requires_grad)
    leaves.extend([copy] * copy.requires_grad)
    return copy


def _as_it_is(value: Tensor) -> Tensor:
    return value
