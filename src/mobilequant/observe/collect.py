"""One data pass for every statistic that a step needs: windows stream by, only the statistics stay in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.errors import CheckpointError
from mobilequant.models.decoder import Tap, block, embed, final_norm, head, untouched
from mobilequant.models.model import KVPrefix, Model
from mobilequant.models.out_of_memory import OF_PASSES, naming
from mobilequant.observe.absmax import AbsMaxCollector, TokenAbsMaxCollector
from mobilequant.observe.collector import Collector
from mobilequant.observe.hessian import HessianCollector
from mobilequant.observe.mean import MeanCollector
from mobilequant.observe.minmax import MinMaxCollector
from mobilequant.observe.plane import PlaneReachCollector
from mobilequant.observe.range import RangeCollector
from mobilequant.pipeline import parallel
from mobilequant.pipeline.memory import return_freed_memory
from mobilequant.pipeline.method import Need, StatisticKind
from mobilequant.pipeline.progress import Track, silent

_LOGITS = (point.LOGITS, point.CAPPED_LOGITS)
_COLLECTORS: dict[StatisticKind, Callable[[], Collector]] = {
    "range": RangeCollector,
    "minmax": MinMaxCollector,
    "absmax": AbsMaxCollector,
    "mean": MeanCollector,
    "token_absmax": TokenAbsMaxCollector,
    "hessian": HessianCollector,
}


class Observer:
    """A tap that feeds collectors. ``tap``: what happens to a value before it is looked at (a fake quantizer)."""

    def __init__(self, model: Model, needs: Iterable[Need], *, tap: Tap = untouched) -> None:
        self._tap = tap
        self._collectors = {need: _collector(need, model.arch) for need in needs}
        self._by_point: dict[str, list[Collector]] = {}
        for need, collector in self._collectors.items():
            self._by_point.setdefault(need.point, []).append(collector)

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Show the value, as its readers get it, to the collectors of the point."""
        seen = self._tap(name, value)
        for collector in self._by_point.get(name, ()):
            collector.see(seen)
        return seen

    def see_prefix(self, arch: Architecture, prefix: KVPrefix) -> None:
        """Show the constant keys and values to the collectors of the points that share their cache."""
        for layer in range(arch.num_layers):
            for name, constant in (
                (point.key_point(arch, layer), prefix.keys[layer]),
                (point.at(layer, "v"), prefix.values[layer]),
            ):
                for collector in self._by_point.get(name, ()):
                    collector.see_constant(constant)

    def results(self) -> dict[Need, Any]:
        """The finished statistic of every need."""
        return {need: collector.result() for need, collector in self._collectors.items()}

    def merged_results(self) -> dict[Need, Any]:
        """The finished statistic of every need over what all processes were shown, as if one had seen it all.

        One collector after the other, because Hessians are large.
        """
        return {need: _merged(collector).result() for need, collector in self._collectors.items()}


def _collector(need: Need, arch: Architecture) -> Collector:
    if need.kind != "plane_reach":
        return _COLLECTORS[need.kind]()
    rope = arch.layers[point.layer_of(need.point)].rope
    assert rope is not None, f"{need.point}: no RoPE, no planes"
    return PlaneReachCollector(arch.head_dim, rope.rotary_dim // 2)


def _merged(collector: Collector) -> Collector:
    of_processes = parallel.from_each(collector)
    merged = next(of_processes)
    for other in of_processes:
        merged.merge(other)
    return merged


@torch.inference_mode()
def collect(
    model: Model,
    windows: Tensor,
    needs: Iterable[Need],
    *,
    prefix: KVPrefix | None = None,
    task: str = "calibration",
    track: Track = silent,
) -> dict[Need, Any]:
    """Every statistic in ``needs`` over windows (N, T) of tokens, one window at a time, shared among all processes.

    The tokens of ``prefix`` are not among those observed; its keys and values are, as constants of their cache.
    The pass ends behind the last point that is needed. ``task`` is what the progress says.

    Raises:
        CheckpointError: the model overflows.
        ResourceError: the memory of the GPU does not suffice; names the block.
    """
    wanted = list(needs)
    observer = Observer(model, wanted)
    depth = max((_blocks_before(model.arch, need.point) for need in wanted), default=0)
    behind_blocks = final_norm if all(need.point not in _LOGITS for need in wanted) else head
    own = parallel.share(windows)
    for window in track(own, task, len(own)):
        hidden = embed(model, window[None], tap=observer, start=len(prefix) if prefix else 0)
        for layer in range(min(depth, model.arch.num_layers)):
            with naming(f"layers.{layer} in the pass for {task}", OF_PASSES):
                hidden = block(model, layer, hidden, tap=observer, prefix=prefix)
            _require_finite(hidden, layer)
        if depth > model.arch.num_layers:
            with naming(f"the head in the pass for {task}", OF_PASSES):
                behind_blocks(model, hidden, tap=observer)
        return_freed_memory()
    if prefix:
        observer.see_prefix(model.arch, prefix)
    return observer.merged_results()


def _require_finite(hidden: Tensor, layer: int) -> None:
    if not bool(hidden.isfinite().all()):
        raise CheckpointError(
            f"the float model gives NaN or infinite values in layer {layer}",
            "Its weights are damaged, or config.json belongs to another model: get both again from their source.",
        )


def _blocks_before(arch: Architecture, name: str) -> int:
    """How many blocks must run for a point to be seen; one more than there are for a point of the head."""
    if name == point.EMBED:
        return 0
    return point.layer_of(name) + 1 if name.startswith("layers.") else arch.num_layers + 1
