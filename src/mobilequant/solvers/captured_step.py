"""One training step as a CUDA graph: its thousands of small kernels are launched at once.

A step of a small model is bound by launching kernels, not by running them. The forward and the backward pass are run a
few times as usual (which also compiles what is compiled), then recorded once, and from then on replayed on new inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_WARM_UP = 3


class CapturedStep:
    """Computes a loss and the gradients of ``leaves``; every batch must have the shapes of the first."""

    def __init__(self, loss: Callable[..., Tensor], leaves: Sequence[Tensor]) -> None:
        self._loss, self._leaves = loss, leaves
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._result = torch.empty(())

    def __call__(self, *batch: Tensor) -> Tensor:
        """The loss, (); gradients lie in ``grad`` of the leaves."""
        if self._graph is None:
            self._capture(batch)
        else:
            for held, given in zip(self._inputs, batch, strict=True):
                held.copy_(given)
        assert self._graph is not None
        self._graph.replay()
        return self._result.clone()

    def _capture(self, batch: Sequence[Tensor]) -> None:
        self._inputs = [each.to(self._leaves[0].device, copy=True) for each in batch]
        for each in self._leaves:
            each.grad = torch.zeros_like(each)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._compute()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = self._compute()

    def _compute(self) -> Tensor:
        torch._foreach_zero_([each.grad for each in self._leaves if each.grad is not None])
        found = self._loss(*self._inputs)
        found.backward()
        return found.detach()
