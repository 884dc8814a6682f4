"""Long lists of points as people read them: by role, with runs of layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mobilequant.arch.point import role_of
from mobilequant.evaluate.sqnr import layer_of


def by_role(points: Iterable[str]) -> list[tuple[str, str]]:
    """["layers.0.o", "layers.1.o", "logits"] → [("o", "layers 0–1"), ("logits", "")], in order of first appearance."""
    layers: dict[str, set[int]] = {}
    for name in points:
        layer = layer_of(name)
        layers.setdefault(role_of(name), set()).update(() if layer is None else (layer,))
    return [(role, _layers_text(sorted(found))) for role, found in layers.items()]


def _layers_text(layers: Sequence[int]) -> str:
    if not layers:
        return ""
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(_runs(layers))}"


def _runs(layers: Sequence[int]) -> list[str]:
    """[0, 1, 2, 5] → ["0–2", "5"]."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return [str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs]
