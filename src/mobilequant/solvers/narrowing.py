"""Which 16-bit points can do with 8 bits: the search of ``sensitivity`` the other way round.

Single costs are clean but small, and they add up; the divergence of a whole rounded model is the truth, but a chaotic
one: its noise on a few windows is larger than most single costs. So the sum of the single costs bounds what is taken,
and the measured divergence on held-out windows can only take back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor

from mobilequant.arch import point
from mobilequant.models.quantized import QuantizedModel
from mobilequant.numerics.qparams import QParams, asymmetric
from mobilequant.numerics.qtype import INT16, UINT8
from mobilequant.observe.collect import collect
from mobilequant.pipeline.method import Need
from mobilequant.pipeline.progress import Track, silent


def islands(quantized: QuantizedModel, roles: Iterable[str]) -> list[str]:
    """The 16-bit points of some roles, in running order, but for those that the scheme names itself."""
    wanted, activations = frozenset(roles), quantized.activations
    return [
        name
        for name in point.all_points(quantized.model.arch)
        if point.role_of(name) in wanted
        and activations[name].qtype.num_bits == INT16.num_bits
        and name not in quantized.scheme.sixteen_bit
    ]


def eight_bit_ranges(
    quantized: QuantizedModel, windows: Tensor, points: Sequence[str], *, track: Track = silent
) -> dict[str, QParams]:
    """Asymmetric uint8 for each of ``points``, with the least squared error on windows (N, T)."""
    needs = {name: Need("range", name) for name in points}
    stats = collect(quantized.model, windows, needs.values(), prefix=quantized.prefix, task="8-bit ranges", track=track)
    ends = {name: stats[need].optimal(UINT8, 2.0, symmetric=False) for name, need in needs.items()}
    return {name: asymmetric(low, high, UINT8) for name, (low, high) in ends.items()}


def affordable(costs: Mapping[str, float], per_element: Mapping[str, float], budget: float) -> list[str]:
    """Points in rising order of cost per element saved; one that would bring the sum of costs above the budget is left
    out, those behind it are still tried.
    """
    taken, total = [], 0.0
    for name in sorted(costs, key=lambda name: per_element[name]):
        if total + costs[name] <= budget:
            taken.append(name)
            total += costs[name]
    return taken


def longest_within(points: Sequence[str], measure: Callable[[Sequence[str]], float], limit: float) -> Sequence[str]:
    """The longest opening of ``points`` found whose measure is at most ``limit``; that of no points counts as within.

    The measure is taken to grow with the opening: about log2 of their number are measured, the whole first.
    """
    within, beyond = 0, len(points) + 1
    trial = len(points)
    while beyond - within > 1:
        if measure(points[:trial]) <= limit:
            within = trial
        else:
            beyond = trial
        trial = (within + beyond) // 2
    return points[:within]
