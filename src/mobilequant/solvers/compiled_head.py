"""The end of a student, compiled: its logits are as large as hundreds of residuals, and each pass over them costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.models import decoder
from mobilequant.models.decoder import Tap, untouched
from mobilequant.models.model import Model
from mobilequant.solvers.compiled_block import is_traceable
from mobilequant.solvers.compiler import Compiler, Compute
from mobilequant.solvers.learned.piece import Tensors
from mobilequant.solvers.learned.range_tap import RangeKind, RangeTap
from mobilequant.solvers.objective import top_divergence


def compiled_divergence(
    compiler: Compiler, model: Model, hidden: Tensor, tap: Tap, top: Tensor, tokens: Tensor
) -> Tensor:
    """``top_divergence`` of the logits behind the last residuals (T, C), compiled where it can be."""
    if not compiler.serves(hidden) or not is_traceable(tap):
        return _divergence(model, hidden, tap, top, tokens)
    ranges, numbers = (tap.kind, tap.numbers) if isinstance(tap, RangeTap) else (None, {})
    kind = _Kind(replace(model.arch, layers=()), ranges)
    given = (_tensors_of(model.tensors), numbers, top, tokens, hidden)
    function = compiler.function(kind, lambda: _divergence_of(kind), given)
    return function(*given) if function else _divergence(model, hidden, tap, top, tokens)


@dataclass(frozen=True)
class _Kind:
    """What the function knows apart from its arguments; ``arch`` has no layers."""

    arch: Architecture
    ranges: RangeKind | None


def _tensors_of(tensors: Mapping[str, Tensor]) -> Tensors:
    read = (f"{point.FINAL_NORM}.", f"{point.LM_HEAD}.", point.RESIDUAL_SCALE)
    return {name: each for name, each in tensors.items() if name.startswith(read)}


def _divergence_of(kind: _Kind) -> Compute:
    def compute(tensors: Tensors, numbers: Tensors, top: Tensor, tokens: Tensor, hidden: Tensor) -> Tensor:
        tap = RangeTap(kind.ranges, numbers) if kind.ranges else untouched
        return _divergence(Model(kind.arch, tensors), hidden, tap, top, tokens)

    return compute


def _divergence(model: Model, hidden: Tensor, tap: Tap, top: Tensor, tokens: Tensor) -> Tensor:
    return top_divergence(decoder.head(model, hidden[None], tap=tap)[0], top, tokens)
