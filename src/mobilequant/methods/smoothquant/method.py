"""SmoothQuant (arXiv 2211.10438) on every derived pair: move what is hard in activations into the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mobilequant.arch.architecture import Architecture
from mobilequant.arch.pair import Kind, ScalePair, consumer_index, producer_index, scale_pairs
from mobilequant.methods.smoothquant.scale import SmoothScale, in_powers_of_two, smooth_scale
from mobilequant.pipeline.method import FrozenConfig, Inputs, Need, Result, Rewrite, Unit, UnitKind
from mobilequant.pipeline.scheme import Scheme
from mobilequant.transforms.scale import fold, reduce_max


class SmoothQuantConfig(FrozenConfig):
    """How much moves, and where."""

    alpha: float = Field(
        0.5,
        ge=0.0,
        le=1.0,
        description="Share of the activations' spread that moves to weights (q_to_k and a tied head: always ½).",
    )
    beta: float | None = Field(
        None,
        ge=0.0,
        le=1.0,
        description="How far scales flatten the columns of weights, 1 - alpha if left out; 0 leaves them as they are.",
    )
    balance: Literal["input", "all"] = Field(
        "all", description="input: smooth what the consumers read, as published. all: every activation that is divided."
    )
    pairs: tuple[Kind, ...] = Field(
        ("norm_to_qkv", "norm_to_mlp", "norm_to_head", "up_to_down", "v_to_o", "q_to_k"),
        description="Kinds of scale pairs to smooth.",
    )


class SmoothQuant:
    """One pass of per-channel magnitudes, then a closed-form scale per pair; the function stays the same."""

    name: ClassVar[str] = "smoothquant"
    unit: ClassVar[UnitKind] = "block"
    inputs: ClassVar[Inputs] = "float"
    changes: ClassVar[frozenset[str]] = frozenset(
        {"attn_norm", "mlp_norm", "final_norm", "q", "k", "q_norm", "k_norm", "q_rope", "k_rope", "v", "context"}
        | {"up", "act", "product"}
    )
    rounds: ClassVar[bool] = False
    Config: ClassVar[type[FrozenConfig]] = SmoothQuantConfig

    def __init__(self, config: SmoothQuantConfig) -> None:
        self.config = config

    def needs(self, arch: Architecture, scheme: Scheme) -> Sequence[Need]:
        """Per-channel magnitudes of what each pair divides (and, between queries and keys, of both)."""
        pairs = [pair for pair in scale_pairs(arch) if pair.kind in self.config.pairs]
        return list(dict.fromkeys(need for pair in pairs for need in self._needs(pair)))

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """The scales of one block, or of final norm and lm_head."""
        tensors, measures = dict(unit.tensors), {"dead_channels": 0.0}
        rewrites = []
        for pair in self._pairs_of(unit):
            found = self._scale(tensors, unit.arch, pair, stats)
            tensors |= fold(tensors, unit.arch, pair, found.scale)
            rewrites.append(Rewrite("fold", pair.name, found.scale))
            measures["dead_channels"] += found.dead_channels
            measures[f"{pair.kind}_spread"] = (found.scale.max() / found.scale.min()).item()
        return Result(rewrites=tuple(rewrites), measures=measures)

    def _pairs_of(self, unit: Unit) -> list[ScalePair]:
        """Last pair first: a norm's scale must see the rows of its readers as the other pairs leave them."""
        owner = [
            (f"layers.{pair.layer}" if pair.layer is not None else "head", pair) for pair in scale_pairs(unit.arch)
        ]
        return [pair for name, pair in reversed(owner) if name == unit.name and pair.kind in self.config.pairs]

    def _needs(self, pair: ScalePair) -> list[Need]:
        return [Need("absmax", name) for name in (*self._divided(pair), *pair.multiplied[-1:])]

    def _divided(self, pair: ScalePair) -> tuple[str, ...]:
        """The activations that the scale is to flatten."""
        return pair.divided if self.config.balance == "all" else pair.divided[-1:]

    def _scale(
        self, tensors: Mapping[str, Tensor], arch: Architecture, pair: ScalePair, stats: Mapping[Need, Any]
    ) -> SmoothScale:
        consumers = consumer_index(arch, pair)
        alpha, beta = self.config.alpha, self.config.beta
        if pair.tied or pair.consumer_axis == "output":  # columns that are looked up too, or activations on both sides
            alpha, beta = 0.5, None
        if pair.consumer_axis == "output":
            multiplied = stats[Need("absmax", pair.multiplied[-1])]
        else:
            columns = [tensors[f"{name}.weight"].abs().amax(dim=0) for name in pair.consumers]
            multiplied = torch.stack(columns).amax(dim=0)
        divided = [_divided_channels(arch, pair, stats[Need("absmax", name)]) for name in self._divided(pair)]
        hardness, multiplied = _hardest(divided), _per_scale(multiplied, consumers, pair)
        found = smooth_scale(hardness, multiplied, alpha, beta)
        return in_powers_of_two(found, hardness, multiplied) if pair.tied else found


def _divided_channels(arch: Architecture, pair: ScalePair, channels: Tensor) -> Tensor:
    """Magnitudes of a divided activation per free scale; it has either the producers' channels or the consumers'."""
    produced = producer_index(arch, pair)
    index = produced if pair.consumer_axis == "output" or len(channels) == len(produced) else consumer_index(arch, pair)
    return _per_scale(channels, index, pair)


def _hardest(points: Sequence[Tensor]) -> Tensor:
    """How hard each channel is for any of several tensors: its magnitude relative to that tensor's largest channel."""
    return torch.stack([channels / channels.max().clamp_min(1e-30) for channels in points]).amax(dim=0)


def _per_scale(channels: Tensor, index: list[int], pair: ScalePair) -> Tensor:
    """The largest magnitude among the channels that share a scale; an index over one head repeats for every head."""
    return reduce_max(channels.float(), index * (len(channels) // len(index)), pair.num_channels)
