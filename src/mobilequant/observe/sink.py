"""Sink control: which constant tokens to put in front of every sequence so that no later token is an outlier.

Decoders park attention that has nowhere to go on one token (mostly the first) and give it enormous activations. With
that token computed once and kept as a constant KV prefix, every token that is quantized is an ordinary one
(PrefixQuant, arXiv 2410.05265, section 4.1).

Whether a prefix holds is seen at the token right behind it: BOS alone can leave some words that still become a sink
when they come next, and calibration windows show one such place each. So every measure also *starts* a sequence with
each of a few hundred tokens of the text.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from mobilequant.data.window import after_prefix
from mobilequant.models.decoder import body, compute_prefix, forward
from mobilequant.models.model import KVPrefix, Model
from mobilequant.observe.collect import Observer, collect
from mobilequant.observe.outlier import OUTLIER_RATIO, TokenOutlier, token_needs, token_outliers
from mobilequant.pipeline.progress import Track, silent

MAX_PREFIX_TOKENS = 4
MAX_WINDOWS, MAX_STARTS = 4, 256
_REMAINING = 0.5  # a token is kept when at most this share of the outlier tokens is left with it in place
_NEGLIGIBLE = 0.02  # outlier tokens, as a share of the starts tried, that are not worth another prefix token
_OUTLIER_CANDIDATES, _TEXT_CANDIDATES = 4, 12
_LOSS_WINDOWS, _LOSS_TOKENS = 4, 128

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SinkMeasure:
    """Outliers with one prefix in place: per point, and among tokens that directly follow the prefix."""

    outliers: tuple[TokenOutlier, ...]
    loud_starts: tuple[int, ...]  # tokens that are outliers as the first of a sequence
    starts: int  # how many were tried

    @property
    def ratio(self) -> float:
        """Worst largest-over-median of any point over the windows."""
        return max(outlier.ratio for outlier in self.outliers)

    @property
    def places(self) -> frozenset[tuple[int, int]]:
        """(window, position) of every token that is an outlier somewhere."""
        return frozenset(place for outlier in self.outliers for place in outlier.positions)

    @property
    def count(self) -> int:
        """Outlier tokens of both kinds."""
        return len(self.places) + len(self.loud_starts)

    @property
    def calm(self) -> bool:
        """Whether so few outliers are left that ranges may simply clip them."""
        return self.count <= _NEGLIGIBLE * self.starts


@dataclass(frozen=True)
class SinkSearch:
    """What was found. ``measures[k]``: with the first k tokens of the prefix in place."""

    tokens: tuple[int, ...]
    measures: tuple[SinkMeasure, ...]


def find_prefix(model: Model, windows: Tensor, *, max_tokens: int, track: Track = silent) -> tuple[int, ...]:
    """Tokens of the constant prefix, none when there are no outliers; see ``search_prefix``."""
    return search_prefix(model, windows, max_tokens=max_tokens, track=track).tokens


def search_prefix(model: Model, windows: Tensor, *, max_tokens: int, track: Track = silent) -> SinkSearch:
    """Add tokens while outlier tokens remain in windows (N, T), and only those that remove at least half of them.

    The search begins behind the BOS of a model that reads one before every text: it is constant as it is.
    Only the first MAX_WINDOWS windows are looked at: outlier tokens follow the prefix, or are found by the starts.
    As in use, a BOS with which the windows begin is left out where the prefix holds it.

    Raises:
        ValueError: ``max_tokens`` is not in 0…4.
    """
    if not 0 <= max_tokens <= MAX_PREFIX_TOKENS:
        raise ValueError(f"a prefix has 0 to {MAX_PREFIX_TOKENS} tokens, not {max_tokens}")
    windows = windows[:MAX_WINDOWS]
    leading = model.arch.leading_token
    tokens: tuple[int, ...] = ()
    measures = [_measure(model, windows, tokens, track)]
    if leading is not None and max_tokens:
        tokens = (leading,)
        measures.append(_measure(model, windows, tokens, track))
    while len(tokens) < max_tokens and not measures[-1].calm:
        seen = after_prefix(windows, tokens, leading)
        candidate = _next_token(model, seen, tokens, measures[-1], track)
        measure = _measure(model, windows, (*tokens, candidate), track)
        _log.info("prefix token %d: %d outlier tokens -> %d", candidate, measures[-1].count, measure.count)
        if measure.count > _REMAINING * measures[-1].count:
            break
        tokens = (*tokens, candidate)
        measures.append(measure)
    return SinkSearch(tokens, tuple(measures))


def _measure(model: Model, windows: Tensor, tokens: tuple[int, ...], track: Track) -> SinkMeasure:
    prefix = compute_prefix(model, tokens) if tokens else None
    windows = after_prefix(windows, tokens, model.arch.leading_token)
    stats = collect(model, windows, token_needs(model.arch), prefix=prefix, task="outlier tokens", track=track)
    outliers = tuple(token_outliers(stats, model.arch))
    starts = _start_tokens(windows)
    return SinkMeasure(outliers, _loud(model, starts, outliers, prefix), len(starts))


def _start_tokens(windows: Tensor) -> Tensor:
    """At most MAX_STARTS different tokens of the text (K,), evenly spread over the sorted vocabulary."""
    present = windows.unique()
    picked = torch.linspace(0, len(present) - 1, min(MAX_STARTS, len(present))).round().long()
    return present[picked]


@torch.inference_mode()
def _loud(model: Model, starts: Tensor, outliers: tuple[TokenOutlier, ...], prefix: KVPrefix | None) -> tuple[int, ...]:
    """The start tokens that exceed the outlier threshold of the windows at any point."""
    observer = Observer(model, token_needs(model.arch))
    body(model, starts[:, None], tap=observer, prefix=prefix)
    loud = torch.zeros(len(starts), dtype=torch.bool)
    for outlier, magnitudes in zip(outliers, observer.results().values(), strict=True):
        loud |= magnitudes[:, 0].cpu() > OUTLIER_RATIO * outlier.median
    return tuple(starts.cpu()[loud].tolist())


def _next_token(model: Model, windows: Tensor, tokens: tuple[int, ...], measure: SinkMeasure, track: Track) -> int:
    """Of the candidates that calm the starts (nearly) best, the one behind which the model predicts the text best."""
    starts, candidates = _start_tokens(windows), _candidates(model, windows, measure)
    prefixes = {token: compute_prefix(model, (*tokens, token)) for token in candidates}
    left = {
        token: len(_loud(model, starts, measure.outliers, prefixes[token]))
        for token in track(candidates, "prefix candidates", len(candidates))
    }
    enough = min(left.values()) + _NEGLIGIBLE * len(starts)
    calming = [token for token in candidates if left[token] <= enough]
    losses = {
        token: _loss(model, windows, prefixes[token]) for token in track(calming, "loss behind a prefix", len(calming))
    }
    return min(calming, key=lambda token: losses[token])


def _candidates(model: Model, windows: Tensor, measure: SinkMeasure) -> list[int]:
    """BOS, the most frequent outlier tokens, then the most frequent tokens of the text, among them the delimiters that
    models like to park attention on."""
    bos = [] if model.arch.bos_token is None else [model.arch.bos_token]
    outliers = Counter(int(windows[place]) for place in sorted(measure.places)).most_common(_OUTLIER_CANDIDATES)
    frequent = Counter(windows.flatten().tolist()).most_common(_TEXT_CANDIDATES)
    return list(dict.fromkeys([*bos, *(token for token, _ in (*outliers, *frequent))]))


@torch.inference_mode()
def _loss(model: Model, windows: Tensor, prefix: KVPrefix) -> float:
    """Mean cross-entropy in nats behind a prefix, over the beginnings of the first windows, where it matters most."""
    beginnings = windows[:_LOSS_WINDOWS, :_LOSS_TOKENS]
    logits = forward(model, beginnings, prefix=prefix)[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), beginnings[:, 1:].flatten()).item()
