"""Sink control: which constant tokens to put in front of every sequence so that no later token is an outlier.

Decoders park attention that has nowhere to go on one token (mostly the first) and give it enormous activations. With
that token computed once and kept as a constant KV prefix, every token that is quantized is an ordinary one
(PrefixQuant, arXiv 2410.05265, section 4.1).
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

from torch import Tensor

from mobilequant.models.decoder import compute_prefix
from mobilequant.models.model import Model
from mobilequant.observe.collect import collect
from mobilequant.observe.outlier import TokenOutlier, token_needs, token_outliers
from mobilequant.pipeline.progress import Track, silent

MAX_PREFIX_TOKENS = 4
_REMAINING = 0.5  # a token is kept when at most this share of the outlier tokens is left with it in place

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SinkSearch:
    """What was found. ``outliers[k]``: every down_proj input measured with the first k prefix tokens in place."""

    tokens: tuple[int, ...]
    outliers: tuple[tuple[TokenOutlier, ...], ...]

    @property
    def ratio_before(self) -> float:
        """Worst largest-over-median of any down_proj input without a prefix."""
        return _worst_ratio(self.outliers[0])

    @property
    def ratio_after(self) -> float:
        """The same with the whole prefix in place."""
        return _worst_ratio(self.outliers[len(self.tokens)])


def find_prefix(model: Model, windows: Tensor, *, max_tokens: int, track: Track = silent) -> tuple[int, ...]:
    """Tokens of the constant prefix, none when there are no outliers; see ``search_prefix``."""
    return search_prefix(model, windows, max_tokens=max_tokens, track=track).tokens


def search_prefix(model: Model, windows: Tensor, *, max_tokens: int, track: Track = silent) -> SinkSearch:
    """Add tokens while outlier tokens remain in windows (N, T), and only those that remove a good part of them.

    Raises:
        ValueError: ``max_tokens`` is not in 0…4.
    """
    if not 0 <= max_tokens <= MAX_PREFIX_TOKENS:
        raise ValueError(f"a prefix has 0 to {MAX_PREFIX_TOKENS} tokens, not {max_tokens}")
    tokens: tuple[int, ...] = ()
    measured = [_measure(model, windows, tokens, track)]
    while len(tokens) < max_tokens:
        candidate = _next_token(model, windows, measured[-1], first=not tokens)
        if candidate is None:
            break
        with_candidate = _measure(model, windows, (*tokens, candidate), track)
        before, after = len(_places(measured[-1])), len(_places(with_candidate))
        _log.info("prefix token %d: %d outlier tokens -> %d", candidate, before, after)
        if after > _REMAINING * before:
            break
        tokens = (*tokens, candidate)
        measured.append(with_candidate)
    return SinkSearch(tokens, tuple(measured))


def _measure(model: Model, windows: Tensor, tokens: tuple[int, ...], track: Track) -> tuple[TokenOutlier, ...]:
    prefix = compute_prefix(model, tokens) if tokens else None
    stats = collect(model, windows, token_needs(model.arch), prefix=prefix, track=track)
    return tuple(token_outliers(stats, model.arch))


def _worst_ratio(outliers: tuple[TokenOutlier, ...]) -> float:
    return max(outlier.ratio for outlier in outliers)


def _places(outliers: tuple[TokenOutlier, ...]) -> set[tuple[int, int]]:
    """(window, position) of every token that is an outlier somewhere."""
    return {place for outlier in outliers for place in outlier.positions}


def _next_token(model: Model, windows: Tensor, outliers: tuple[TokenOutlier, ...], *, first: bool) -> int | None:
    """BOS if it is the first position as such that stands out, else the most frequent outlier token."""
    places = _places(outliers)
    if not places:
        return None
    at_start = sum(1 for _, position in places if position == 0)
    if first and 2 * at_start >= len(windows) and model.arch.bos_token is not None:
        return model.arch.bos_token
    counts = Counter(int(windows[window, position]) for window, position in sorted(places))
    return counts.most_common(1)[0][0]
